"""Frozen trunk: learn everything in the first experience, then train only what lies behind the frozen blocks.

    L = CE(softmax(o), y)        over the classes seen so far; ∂L/∂θ_frozen := 0 from experience 1 on

Source: "feature extraction" in Li & Hoiem 2016 (arXiv 1606.09282), section 2, figure 2(c).
Variant: one head for all classes, and the whole of it trains on. Frozen blocks keep their parameters and the running
statistics of their batch normalisation to the byte.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor, nn

import clbench
from clbench import losses


@clbench.config
class Config:
    blocks: Annotated[int, Ge(1)] | Literal["all"] = "all"
    """How many leading blocks of the trunk are frozen; all of them leaves the head alone to train."""


class Frozen(clbench.Strategy[Config]):
    def start(self, model: clbench.Network) -> None:
        blocks = self.config.blocks
        if blocks != "all" and blocks > len(model.blocks):
            raise clbench.UsageError(f"frozen.blocks = {blocks}: the network has {len(model.blocks)} blocks")

    def frozen(self, model: clbench.Network, experience: clbench.Experience, epoch: int) -> Sequence[nn.Module]:
        if experience.index == 0:
            return ()
        blocks = self.config.blocks
        return model.blocks if blocks == "all" else model.blocks[:blocks]

    def loss(self, batch: clbench.Batch) -> Tensor:
        return losses.cross_entropy(batch.logits, batch.y)
