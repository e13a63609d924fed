"""Long-tailed class-incremental learning: the number of images falls exponentially from class to class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Gt, Lt

from clbench.base.config import config
from clbench.streams.stream_kind import StreamKind

if TYPE_CHECKING:
    from torch import Tensor


@config
class LongTailed(StreamKind):
    """LT-CIL (Liu et al. 2022, arXiv 2210.00266): the class of rank k out of c keeps μ^(k/(c-1)) of its images.

    On a dataset with domains, each class of each domain has a rank of its own.
    """

    imbalance: Annotated[float, Gt(0), Lt(1)] = 0.01
    """μ, number of images of the rarest class over that of the most frequent one; the inverse
    of what is often called the imbalance factor."""

    order: Literal["ordered", "shuffled"] = "shuffled"
    """Whether the most frequent classes come first, or the ranks are drawn at random."""

    def rows(self, positions: Tensor, split: tuple[int, ...], seed: int) -> tuple[Tensor, ...]:
        """Return the rows of each experience; the images that a class keeps are drawn at random, at least one."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        classes = sum(split)
        ranks = torch.arange(classes)
        if self.order == "shuffled":
            ranks = torch.randperm(classes, generator=generator)
        kept = torch.zeros(len(positions), dtype=torch.bool)
        for position, rank in enumerate(ranks.tolist()):
            own = (positions == position).nonzero().squeeze(1)
            share = self.imbalance ** (rank / max(1, classes - 1))
            count = max(1, int(share * len(own) + 1e-9))  # a whole number stays one in spite of rounding
            kept[own[torch.randperm(len(own), generator=generator)[:count]]] = True
        return tuple(rows[kept[rows]] for rows in StreamKind.rows(self, positions, split, seed))
