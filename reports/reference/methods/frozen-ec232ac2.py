"""Feature extraction: train the whole network on the first experience, then freeze its trunk and train the rest.

    L = CE(softmax(o), y);   ∂L/∂θ := 0 for θ in the frozen blocks from the second experience on

Source: "feature extraction" in Li & Hoiem 2016 (arXiv 1606.09282), section 2 and figure 2(c).
Variant: by default the published one, on a single head: the output units of old classes are frozen too, and the
cross-entropy ranges over the new classes only. Frozen blocks keep their parameters and the running statistics of their
batch normalisation exactly. Domain-incrementally, where no output unit is new, `head=all_rows` has to be chosen.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from annotated_types import Ge
from torch import Tensor, nn

import clbench


@clbench.config
class Config:
    renamed = {"new_term": "cross_entropy_over"}

    blocks: Annotated[int, Ge(1)] | Literal["all"] = "all"
    """How many of the trunk's blocks are frozen, counted from the input; with `all` only the head is trained."""

    head: Literal["new_rows", "all_rows"] = "new_rows"
    """Rows of the head (output units) that are trained: those of the new classes (the paper), or all."""

    cross_entropy_over: Literal["current", "seen"] = "current"
    """Classes over which the softmax ranges, class-incrementally: those of the current experience (the paper), or all
    seen so far."""


class Frozen(clbench.Strategy[Config]):
    @classmethod
    def check_protocol(cls, config: Config, recipe: clbench.Recipe, setting: clbench.Setting) -> None:
        if setting == "domain_incremental" and config.head == "new_rows":
            raise clbench.UsageError(
                "frozen.head = new_rows: domain-incrementally no output unit is new; set frozen.head=all_rows"
            )

    def start(self, model: clbench.Network) -> None:
        blocks = self.config.blocks
        if blocks != "all" and blocks > len(model.blocks):
            raise clbench.UsageError(f"frozen.blocks = {blocks}: the network has {len(model.blocks)} blocks")

    def first_loss(self) -> clbench.Classes:
        return self.config.cross_entropy_over

    def frozen(self, model: clbench.Network, experience: clbench.Experience, epoch: int) -> Sequence[nn.Module]:
        blocks = model.blocks if self.config.blocks == "all" else model.blocks[: self.config.blocks]
        if self.config.head == "all_rows":
            return tuple(blocks)
        return (*blocks, model.head.all_but(experience.old_classes, experience.seen_classes))

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy(self.config.cross_entropy_over)
