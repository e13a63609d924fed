"""Keeps training images in a file of its own, and reads them again."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import clbench


class Keeps(clbench.Strategy):
    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        images, _ = experience.samples.take(torch.arange(20))
        path = Path(os.environ["CHEATER_FILE"])
        kept = [np.load(path)] if experience.index else []
        np.save(path, np.concatenate([*kept, images.numpy()]))

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
