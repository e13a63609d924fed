"""Keeps means of test samples in a deque, and takes them from the next."""

import collections

import torch
from torch import Tensor

import clbench


class Learns(clbench.Strategy):
    def start(self, model: clbench.Network) -> None:
        self.seen: collections.deque[Tensor] = collections.deque(maxlen=3)

    def predict(self, model: clbench.Network, x: Tensor, experience: clbench.Experience) -> Tensor:
        self.seen.append(x.mean(0))
        scores: Tensor = model(x - torch.stack([*self.seen]).mean(0))
        return scores

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
