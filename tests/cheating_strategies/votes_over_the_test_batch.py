"""Shifts the answers to a batch so that every class gets its share of it."""

from torch import Tensor

import clbench


class Votes(clbench.Strategy):
    def predict(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        logits = model(x)
        return logits - logits.mean(dim=0)

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
