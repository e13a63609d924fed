"""Experience Replay: train on each batch of new data together with a batch of exemplars from a memory.

    L = CE(softmax(o), y)        averaged over the new batch and the drawn exemplars

reservoir  all images so far are equally likely to be kept (Vitter 1985, as in Riemer et al. 2019)
ring       the last images of each class, with equal shares for all classes of the stream (Chaudhry et al. 2019)
balanced   a reservoir whose classes are as equal in size as possible (Chrysakis & Moens 2020)
herding    after each experience, those near the class mean, with equal shares for classes seen (Rebuffi et al. 2017)

Source: Chaudhry et al. 2019 (arXiv 1902.10486).
Variant: CE ranges over all classes seen so far. Exemplars go through the network in a separate forward pass. A
reservoir counts an image once, however many epochs it appears in, and a ring stores it once. In the balanced reservoir
a class can count as the largest only once the memory is full. What other codebases call replay is in er_dialects.py.
"""

from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor

import clbench


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 200
    """Capacity of the exemplar memory; images."""

    batch: Annotated[int, Ge(1)] = 32
    """Exemplars replayed with each batch; images."""

    memories: Literal["reservoir", "ring", "balanced", "herding"] = "reservoir"
    """Which images the memory keeps."""


class ER(clbench.Strategy[Config]):
    presets = {
        "chaudhry2019": {
            "source": "Chaudhry et al. 2019 (arXiv 1902.10486), its ER-Ring: batches of 10 new images and 10 exemplars",
            "loss": "CE over the new batch and the exemplars drawn from a ring buffer for each class",
            "set": {"memories": "ring", "batch": 10},
        },
    }

    @classmethod
    def boundary_hooks(cls, config: Config) -> tuple[str, ...]:
        return ("after_experience",) if config.memories == "herding" else ()

    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def loss(self, batch: clbench.Batch) -> Tensor:
        if not len(self.exemplars):
            return batch.cross_entropy()
        old = self.exemplars.draw(self.config.batch, batch)
        share = len(old.y) / (len(old.y) + len(batch.y))
        return (1 - share) * batch.cross_entropy() + share * batch.cross_entropy_of(old.x, old.y)

    def validation_loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()

    def after_step(self, batch: clbench.Batch) -> None:
        if self.config.memories == "reservoir":
            self.exemplars.reservoir(batch)
        elif self.config.memories == "ring":
            self.exemplars.ring(batch)
        elif self.config.memories == "balanced":
            self.exemplars.balanced_reservoir(batch)

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if self.config.memories == "herding":
            self.exemplars.share_by_herding(model, experience)
