"""Class-incremental learning with repetition: new classes come, and old ones return."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from clbench.base.config import config
from clbench.errors import UsageError
from clbench.streams.stream_kind import LARGEST, StreamKind

if TYPE_CHECKING:
    from torch import Tensor


@config
class Repetition(StreamKind):
    """Classes that return (Hemati et al. 2023, arXiv 2301.11396): in each experience some come for the first time, and
    every class that came before returns with a given probability.

    An experience has as many samples as the dataset has on average, divided equally among its classes. Those of a class
    are drawn without replacement, and come again only after all others of the class have come.
    """

    takes_split: ClassVar[bool] = False
    classes_return: ClassVar[bool] = True

    experiences: Annotated[int, Ge(2), Le(LARGEST)] = 20
    """Number of experiences."""

    first: Annotated[float, Gt(0), Le(1)] = 0.2
    """Parameter of the geometric distribution of a class's first experience, cut off at the last one."""

    repeat: Annotated[float, Ge(0), Le(1)] = 0.3
    """Probability that a class that came before returns in an experience."""

    def new_classes(self, split: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many classes are new in each experience, in proportion to (1 - first)^i: the shares of c classes
        up to each experience, rounded up."""
        classes = sum(split)
        weights = [(1 - self.first) ** index for index in range(self.experiences)]
        shares = (reached / sum(weights) for reached in accumulate(weights))
        come = [min(classes, math.ceil(classes * share - 1e-9)) for share in shares]
        return tuple(after - before for before, after in pairwise((0, *come)))

    def check_images(self, images: Sequence[int], split: tuple[int, ...]) -> None:
        """Raise UsageError if there are more experiences than images."""
        if self.experiences > sum(images):
            raise UsageError(f"stream.experiences = {self.experiences} is more than the {sum(images)} training images")

    def rows(self, positions: Tensor, split: tuple[int, ...], seed: int) -> tuple[Tensor, ...]:
        """Return the rows of each experience."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        size = len(positions) // self.experiences
        waiting: dict[int, Tensor] = {}
        experiences, come = [], 0
        for new in self.new_classes(split):
            returning = (torch.rand(come, generator=generator) < self.repeat).nonzero().squeeze(1).tolist()
            present = [*returning, *range(come, come + new)]
            if not present:
                present = [int(torch.randint(come, (1,), generator=generator))]
            come += new
            parts = []
            for position in present:
                own = (positions == position).nonzero().squeeze(1)
                wanted = min(len(own), max(1, size // len(present)))
                queue = waiting.get(position, own[:0])
                if len(queue) < wanted:
                    # Those in the queue already come in this experience, so they follow the others in the next round.
                    fresh = own[~torch.isin(own, queue)]
                    later = fresh[torch.randperm(len(fresh), generator=generator)]
                    queue = torch.cat([queue, later, queue])
                parts.append(queue[:wanted])
                waiting[position] = queue[wanted:]
            experiences.append(torch.cat(parts).sort().values)
        return tuple(experiences)
