"""Reads the dataset's files, with every class and the test set."""

import os
from pathlib import Path

from torch import Tensor

import clbench


class Opens(clbench.Strategy):
    def before_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        for path in Path(os.environ["CHEATER_DATA"]).rglob("*.npy"):
            path.read_bytes()

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
