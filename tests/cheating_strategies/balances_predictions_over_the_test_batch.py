"""Shifts the logits of a batch so that every class gets its share of the predictions."""

from torch import Tensor

import clbench


class Balances(clbench.Strategy):
    def predict(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        logits = model(x)
        return logits - logits.mean(dim=0)

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
