"""Opens a file when it is imported, and reads it while it trains."""

import os
from pathlib import Path

from torch import Tensor

import clbench

FILE = Path(os.environ["CHEATER_FILE"]).open("rb")  # noqa: SIM115 (that is the cheat)


class Keeps(clbench.Strategy):
    def before_experience(self, model: clbench.Network, experience: clbench.Experience) -> None:
        FILE.seek(0)
        self.read = len(FILE.read())

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
