"""Keeps images as weights of a layer that it adds to the network: a tenth of them, plus one."""

import torch
from torch import Tensor, nn

import clbench


class Keeps(clbench.Strategy):
    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        x, _ = next(experience.samples.batches(20))
        kept = nn.Linear(x[0].numel(), len(x), bias=False)
        kept.weight = nn.Parameter(torch.add(1, x.flatten(1), alpha=0.1), requires_grad=False)
        model.kept = kept

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
