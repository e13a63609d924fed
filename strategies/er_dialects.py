"""What other codebases call replay or rehearsal: exemplars drawn when an experience ends, mixed in one of two ways.

    L = CE                                               ("data")
    L = 1/n CE(new batch) + (1 - 1/n) CE(exemplars)      ("batches")

data       batches are drawn from the new data and the exemplars, the latter repeated to about the same number
batches    every batch of new data in experience n is paired with a batch of exemplars

Source: the codebases named in each preset.
Variant: each preset gives its own formula. The classification loss is that of the setting, also for exemplars.
"""

from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor

import clbench


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 1100
    """Capacity of the exemplar memory; images."""

    batch: Annotated[int, Ge(1)] = 128
    """Exemplars replayed with each batch, in the mixture `batches`; images."""

    mixture: Literal["data", "batches"] = "data"
    """Whether exemplars are part of the training data, or are replayed with every batch."""

    share_of: Literal["experiences", "stream"] = "experiences"
    """Whether the whole memory is divided among the experiences so far, or each class of the stream has its own share
    from the start."""

    cross_entropy_over: Literal["seen", "all"] = "seen"
    """Classes over which the cross-entropy's softmax ranges, class-incrementally: all seen so far, or all of the
    stream, which needs a recipe with a fixed head."""


class ERDialects(clbench.Strategy[Config]):
    dialects_of = "er"
    presets = {
        "hsu2018": {
            "source": "Hsu et al. 2018 (arXiv 1810.12488), agents/exp_replay.py of its code: naive rehearsal",
            "loss": "CE(seen) over new data and repeated exemplars; 1100 of them, at random per experience",
        },
        "vandeven2022": {
            "source": "van de Ven et al. 2022 (Nature Machine Intelligence), train/train_task_based.py of its code",
            "loss": "1/n·CE(all) + (1 - 1/n)·CE(all) of 128 exemplars in experience n; 100 of each class, at random",
            "set": {
                "memory": 1000,
                "mixture": "batches",
                "share_of": "stream",
                "cross_entropy_over": "all",
            },
        },
    }

    def start(self, model: clbench.Network) -> None:
        if self.config.cross_entropy_over == "all" and not model.head.fixed:
            raise clbench.UsageError("er: a loss over all classes of the stream needs a recipe with a fixed head")
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def first_loss(self) -> clbench.Classes:
        return self.config.cross_entropy_over

    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        return "with_repeated_memory" if self.config.mixture == "data" else "current"

    def loss(self, batch: clbench.Batch) -> Tensor:
        over = self.config.cross_entropy_over
        if self.config.mixture == "data":
            return batch.cross_entropy(over)
        old = self.exemplars.draw(self.config.batch, batch)
        new = 1 / (batch.experience.index + 1)
        return new * batch.cross_entropy(over) + (1 - new) * batch.cross_entropy_of(old.x, old.y, over)

    def validation_loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy(self.config.cross_entropy_over)

    def after_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        if self.config.share_of == "experiences":
            self.exemplars.share_among_experiences(experience)
        else:
            self.exemplars.share_among_classes(experience, "stream")
