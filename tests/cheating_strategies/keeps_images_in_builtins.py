"""Keeps training images in Python's builtins."""

import builtins

import torch
from torch import Tensor

import clbench


class Keeps(clbench.Strategy):
    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        kept = vars(builtins).setdefault("kept_images", [])
        kept.append(experience.samples.take(torch.arange(20))[0])

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
