"""Keeps training images in a hook of a weight."""

import torch
from torch import Tensor

import clbench


class Keeper:
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __call__(self, gradient: Tensor) -> None:
        pass


class Keeps(clbench.Strategy):
    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        images, _ = experience.samples.take(torch.arange(20))
        next(model.parameters()).register_hook(Keeper(images))

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
