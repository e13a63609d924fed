"""Reads the samples of earlier experiences again, through the data of the current one."""

from torch import Tensor

import clbench


class Peeks(clbench.Strategy):
    def start(self, model: clbench.Network) -> None:
        self.rows: list[Tensor] = []

    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        for rows in self.rows:
            experience.samples.images.read(rows)
        self.rows.append(experience.samples.rows)
        return "current"

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
