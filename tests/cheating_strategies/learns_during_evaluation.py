"""Updates a statistic with the test samples."""

import torch
from torch import Tensor

import clbench


class Learns(clbench.Strategy):
    def start(self, model: clbench.Network) -> None:
        self.mean = torch.zeros(1)

    def predict(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return model(x)

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
