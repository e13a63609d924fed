"""Has an exemplar memory twice as large as its config declares."""

from torch import Tensor

import clbench


@clbench.config
class Config:
    memory: int = 10
    """Exemplars; images."""


class Keeps(clbench.Strategy[Config]):
    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(2 * self.config.memory)

    def after_step(self, batch: clbench.Batch) -> None:
        self.exemplars.reservoir(batch)

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
