"""Keeps training images as a byte string on the network."""

import torch
from torch import Tensor

import clbench


class Keeps(clbench.Strategy):
    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        images, _ = experience.samples.take(torch.arange(20))
        model.blocks.kept = getattr(model.blocks, "kept", b"") + images.numpy().tobytes()

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
