"""Plain fine-tuning: the loss that most strategies use in the first experience, and plasticity in `--tune chf`."""

from __future__ import annotations

from torch import Tensor

from clbench.base.batch import Batch, Classes
from clbench.base.config import NoConfig
from clbench.base.strategy import Strategy


class FineTuning(Strategy[NoConfig]):
    """Training by cross-entropy, and nothing else."""

    def __init__(self, over: Classes) -> None:
        super().__init__(NoConfig())
        self.over = over
        """The classes that the softmax ranges over; see `Batch.cross_entropy`."""

    def loss(self, batch: Batch) -> Tensor:
        """CE(softmax(o), y)."""
        return batch.cross_entropy(self.over)
