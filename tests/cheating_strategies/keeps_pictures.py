"""Keeps training images as Pillow's."""

import torch
from PIL import Image
from torch import Tensor

import clbench


class Keeps(clbench.Strategy):
    def start(self, model: clbench.Network) -> None:
        self.kept: list[Image.Image] = []

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        images, _ = experience.samples.take(torch.arange(20))
        self.kept += [Image.fromarray(image.squeeze(-1).numpy()) for image in images]

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
