"""Keeps training images in a context variable."""

from contextvars import ContextVar

import torch
from torch import Tensor

import clbench

KEPT: ContextVar[tuple[Tensor, ...]] = ContextVar("kept", default=())


class Keeps(clbench.Strategy):
    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        images, _ = experience.samples.take(torch.arange(20))
        KEPT.set((*KEPT.get(), images))

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
