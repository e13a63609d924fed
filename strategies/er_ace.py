"""ER-ACE: replay with an asymmetric cross-entropy, so that new classes do not suppress the old ones.

    L = CE(new batch; softmax over its own classes) + CE(exemplars; softmax over all classes seen)

Source: Caccia et al. 2022 (arXiv 2104.05025), equation 3.
Variant: exemplars from reservoir sampling, which counts an image once, however many epochs it appears in. The first
experience is trained with plain cross-entropy. Task-incrementally the softmax of an exemplar ranges over the classes of
its own experience.
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


class ERACE(clbench.Strategy[Config]):
    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def loss(self, batch: clbench.Batch) -> Tensor:
        if batch.experience.index == 0:
            return batch.cross_entropy()
        absent = batch.logits.new_ones(batch.logits.shape[1]).bool()
        absent[batch.y.unique()] = False
        new = losses.cross_entropy(batch.logits.masked_fill(absent, -1e30), batch.y)
        old = self.exemplars.draw(self.config.batch, batch)
        return new + batch.cross_entropy_of(old.x, old.y)

    def validation_loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()

    def after_step(self, batch: clbench.Batch) -> None:
        self.exemplars.reservoir(batch)
