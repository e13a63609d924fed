"""Data-incremental learning: the same classes in every experience, and more data of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Le

from clbench.base.config import config
from clbench.errors import UsageError
from clbench.streams.stream_kind import LARGEST, StreamKind

if TYPE_CHECKING:
    from torch import Tensor


@config
class DataIncremental(StreamKind):
    """All classes in each experience ("new instances"): every class's samples are divided equally among them.

    It is Avalanche's `new_instances_benchmark` with balanced experiences.
    """

    takes_split: ClassVar[bool] = False
    classes_return: ClassVar[bool] = True

    experiences: Annotated[int, Ge(2), Le(LARGEST)] = 5
    """Number of experiences."""

    def new_classes(self, split: tuple[int, ...]) -> tuple[int, ...]:
        """Return all classes for the first experience, and none for the others."""
        return (sum(split), *[0] * (self.experiences - 1))

    def check_images(self, images: Sequence[int], split: tuple[int, ...]) -> None:
        """Raise UsageError if no class has an image for every experience, so that some may be empty."""
        if self.experiences > max(images):
            raise UsageError(
                f"stream.experiences = {self.experiences} is more than any class has training images ({max(images)} "
                "at most)"
            )

    def rows(self, positions: Tensor, split: tuple[int, ...], seed: int) -> tuple[Tensor, ...]:
        """Return the rows of each experience, ascending; the remainder goes to experiences drawn at random."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        experiences: list[list[Tensor]] = [[] for _ in range(self.experiences)]
        for position in dict.fromkeys(positions.tolist()):  # in the order in which the classes first occur
            own = (positions == position).nonzero().squeeze(1)
            own = own[torch.randperm(len(own), generator=generator)]
            each = len(own) // self.experiences
            for index in range(self.experiences):
                experiences[index].append(own[index * each : (index + 1) * each])
            rest = own[self.experiences * each :]
            if len(rest):
                lucky = torch.randperm(self.experiences, generator=generator)[: len(rest)].tolist()
                for index, row in zip(lucky, rest.split(1), strict=True):
                    experiences[index].append(row)
        return tuple(torch.cat(parts).sort().values for parts in experiences)
