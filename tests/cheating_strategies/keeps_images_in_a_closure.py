"""Keeps training images in the closure of a function."""

from collections.abc import Callable

import torch
from torch import Tensor

import clbench


def memory() -> Callable[[Tensor], None]:
    kept: list[Tensor] = []
    return lambda images: kept.append(images)


keep = memory()


class Keeps(clbench.Strategy):
    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        keep(experience.samples.take(torch.arange(20))[0])

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
