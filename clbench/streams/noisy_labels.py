"""Noisy labels: a share of the training labels is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Lt

from clbench.base.config import config
from clbench.errors import UsageError
from clbench.streams.stream_kind import StreamKind

if TYPE_CHECKING:
    from torch import Tensor


@config
class NoisyLabels(StreamKind):
    """Symmetric noise: a share of the labels of each class is replaced by one of the experience's other classes.

    All other classes of the experience are equally likely. Those of other experiences are not, since a label would then
    reveal a class that has not come yet. Test labels are correct.
    """

    share: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Share of the training labels that are wrong."""

    def check_images(self, images: Sequence[int], split: tuple[int, ...]) -> None:
        """Raise UsageError if no experience has another class that a wrong label could be."""
        if max(split) == 1:
            raise UsageError(
                "the stream noisy_labels changes no label here: each experience has one class, and a wrong label is "
                "that of another class of the experience",
                "Choose a --split with at least two classes in some experiences.",
            )

    def labels(self, positions: Tensor, split: tuple[int, ...], seed: int) -> Tensor:
        """Return the positions with a share of them replaced; in an experience with one class they stay."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        noisy = positions.clone()
        for end, size in zip(accumulate(split), split, strict=True):
            for position in range(end - size, end) if size > 1 else ():
                own = (positions == position).nonzero().squeeze(1)
                wrong = own[torch.randperm(len(own), generator=generator)[: round(self.share * len(own))]]
                others = torch.tensor([other for other in range(end - size, end) if other != position])
                noisy[wrong] = others[torch.randint(size - 1, (len(wrong),), generator=generator)]
        return noisy
