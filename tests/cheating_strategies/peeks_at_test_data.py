"""Finds the test set in memory and reads it while it trains."""

import gc

import torch
from torch import Tensor

import clbench


class Peeks(clbench.Strategy):
    def before_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        for found in gc.get_objects():
            if type(found).__name__ == "TestSet":
                found.images.read(torch.arange(10))

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
