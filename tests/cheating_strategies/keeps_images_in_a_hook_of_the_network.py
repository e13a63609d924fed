"""Keeps the images that go through the network, by a forward hook."""

from typing import Any

from torch import Tensor, nn

import clbench


class Keep:
    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training and len(self.kept) < 5:
            self.kept.append(inputs[0].detach())


class Keeps(clbench.Strategy):
    def before_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if experience.index == 0:
            model.blocks.register_forward_pre_hook(Keep())

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
