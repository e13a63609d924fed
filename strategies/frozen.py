"""Frozen trunk: learn everything in the first experience, then train only what lies behind the frozen blocks.

    L = CE(softmax(o), y);   ∂L/∂θ := 0 for θ in the frozen blocks, from experience 1 on

Source: "feature extraction" in Li & Hoiem 2016 (arXiv 1606.09282), section 2 and figure 2(c).
Variant: by default the published one, on a single head: the rows of old classes do not train either, and the
cross-entropy ranges over the new classes only. Frozen blocks keep their parameters and the running statistics of their
batch normalisation to the byte.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor, nn

import clbench


@clbench.config
class Config:
    blocks: Annotated[int, Ge(1)] | Literal["all"] = "all"
    """How many leading blocks of the trunk are frozen; with all of them the head alone trains."""

    head: Literal["new_rows", "all_rows"] = "new_rows"
    """Rows of the head that train: those of the new classes (the paper), or those of the old classes too."""

    new_term: Literal["current", "seen"] = "current"
    """Classes over which the cross-entropy's softmax ranges: the new ones (the paper), or all seen so far."""


class Frozen(clbench.Strategy[Config]):
    def start(self, model: clbench.Network) -> None:
        blocks = self.config.blocks
        if blocks != "all" and blocks > len(model.blocks):
            raise clbench.UsageError(f"frozen.blocks = {blocks}: the network has {len(model.blocks)} blocks")

    def first_loss(self) -> clbench.Classes:
        return self.config.new_term

    def frozen(self, model: clbench.Network, experience: clbench.Experience, epoch: int) -> Sequence[nn.Module]:
        blocks = model.blocks if self.config.blocks == "all" else model.blocks[: self.config.blocks]
        return (*blocks, model.head.old) if self.config.head == "new_rows" else tuple(blocks)

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy(self.config.new_term)
