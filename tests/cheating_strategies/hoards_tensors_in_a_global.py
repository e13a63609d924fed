"""Keeps every training image in a list of its file."""

from torch import Tensor

import clbench

HOARD: list[Tensor] = []


class Hoards(clbench.Strategy):
    def loss(self, batch: clbench.Batch) -> Tensor:
        HOARD.append(batch.x.clone())
        return batch.cross_entropy()
