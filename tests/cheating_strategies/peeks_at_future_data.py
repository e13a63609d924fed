"""Reads samples of later experiences."""

import torch
from torch import Tensor

import clbench


class Peeks(clbench.Strategy):
    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        own = set(experience.samples.rows.tolist())
        everything = range(len(experience.samples.images.pixels))
        others = torch.tensor([row for row in everything if row not in own])
        if experience.index == 0:
            experience.samples.images.read(others)
        return "current"

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
