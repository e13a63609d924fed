"""Experience Replay: every batch of new data is trained together with a batch of exemplars from a reservoir.

    L = CE(softmax(o), y)        averaged over the new batch and the drawn exemplars

Source: Chaudhry et al. 2019 (arXiv 1902.10486); reservoir sampling after Vitter 1985, as in Riemer et al. 2019.
Variant: over all classes seen so far. Exemplars go through the network in a separate forward pass. The reservoir counts
an image once, however many epochs show it.
"""

from typing import Annotated

from annotated_types import Ge
from torch import Tensor

import clbench
from clbench import losses


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 200
    """Capacity of the exemplar memory; images."""

    batch: Annotated[int, Ge(1)] = 32
    """Exemplars replayed with each batch; images."""


class ER(clbench.Strategy[Config]):
    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def loss(self, batch: clbench.Batch) -> Tensor:
        if not len(self.exemplars):
            return batch.cross_entropy()
        old = self.exemplars.draw(self.config.batch, batch)
        share = len(old.y) / (len(old.y) + len(batch.y))
        return (1 - share) * batch.cross_entropy() + share * losses.cross_entropy(batch.model(old.x), old.y)

    def after_step(self, batch: clbench.Batch) -> None:
        self.exemplars.reservoir(batch)
