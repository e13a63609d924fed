"""Keeps training images on itself, as NumPy arrays scaled to 0..1."""

import torch
from torch import Tensor

import clbench


class Keeps(clbench.Strategy):
    def start(self, model: clbench.Network) -> None:
        self.kept: dict[int, object] = {}

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        images, _ = experience.samples.take(torch.arange(20))
        self.kept[experience.index] = [images.numpy() / 255]

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
