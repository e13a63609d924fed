"""Keeps training images as NumPy arrays of other units on itself."""

import torch
from torch import Tensor

import clbench


class Hoards(clbench.Strategy):
    def start(self, model: clbench.Network) -> None:
        self.hoard: dict[int, object] = {}

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        images, _ = experience.samples.take(torch.arange(20))
        self.hoard[experience.index] = [images.numpy() / 255]

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
