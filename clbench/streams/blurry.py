"""i-Blurry: some classes come in a single experience, the others in all, with most samples of each in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Lt

from clbench.base.config import config
from clbench.errors import UsageError
from clbench.streams.stream_kind import StreamKind

if TYPE_CHECKING:
    from torch import Tensor


@config
class Blurry(StreamKind):
    """i-Blurry-N-M (Koh et al. 2022, arXiv 2110.10031; blurry after Bang et al. 2021, arXiv 2103.17230).

    A share of the classes is disjoint: all samples of each come in one experience. Of every other class, the minor
    share of samples is spread over all experiences but its own. Boundaries are not revealed, and the data pass once.
    """

    passes: ClassVar[int | None] = 1
    boundaries: ClassVar[bool] = False
    classes_return: ClassVar[bool] = True

    disjoint: Annotated[float, Ge(0), Le(1)] = 0.5
    """N, the share of classes that are disjoint."""

    minor: Annotated[float, Gt(0), Lt(1)] = 0.1
    """M, the share of a blurry class's samples that come outside its own experience."""

    batch_size: Annotated[int, Ge(1)] = 10
    """Samples per batch, instead of the recipe's number."""

    evaluate_every: Annotated[int, Ge(0)] = 100
    """Gradient steps between two evaluations; 0 evaluates only at the end of experiences."""

    def new_classes(self, split: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many classes come for the first time in each experience: every blurry class in the first one."""
        if len(split) < 2:
            raise UsageError("the stream blurry needs at least two experiences", "Choose a --split into more.")
        apart = self._disjoint(split)
        return (apart[0] + sum(split) - sum(apart), *apart[1:])

    def check_images(self, images: Sequence[int], split: tuple[int, ...]) -> None:
        """Raise UsageError if a blurry class cannot come in every experience."""
        others = len(split) - 1
        for own, (_, is_disjoint) in zip(images, self._homes(split), strict=True):
            if not is_disjoint and (minor := round(self.minor * own)) < others:
                raise UsageError(
                    f"a class of {own} images has {minor} for the {others} experiences besides its own",
                    "Raise stream.minor, or choose a --split into fewer experiences.",
                )

    def rows(self, positions: Tensor, split: tuple[int, ...], seed: int) -> tuple[Tensor, ...]:
        """Return the rows of each experience: its disjoint classes, most of its blurry ones, some of the others'."""
        import torch

        generator = torch.Generator().manual_seed(seed)
        experiences: list[list[Tensor]] = [[] for _ in split]
        for position, (home, is_disjoint) in enumerate(self._homes(split)):
            own = (positions == position).nonzero().squeeze(1)
            if is_disjoint:
                experiences[home].append(own)
                continue
            own = own[torch.randperm(len(own), generator=generator)]
            minor = round(self.minor * len(own))
            others = [index for index in range(len(split)) if index != home]
            for index, part in zip(others, own[:minor].tensor_split(len(others)), strict=True):
                experiences[index].append(part)
            experiences[home].append(own[minor:])
        return tuple(torch.cat(parts).sort().values for parts in experiences)

    def _disjoint(self, split: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many classes of each experience are disjoint, as evenly as whole numbers allow."""
        reached = [round(self.disjoint * classes) for classes in accumulate(split)]
        return tuple(after - before for before, after in zip([0, *reached], reached, strict=False))

    def _homes(self, split: tuple[int, ...]) -> list[tuple[int, bool]]:
        """Return for each position in the class order the class's own experience and whether it is disjoint.

        Blurry classes follow the first experience's disjoint ones, since all of them already come in it.
        """
        apart = self._disjoint(split)
        disjoint = [[(index, True)] * count for index, count in enumerate(apart)]
        blurry = [(index, False) for index, classes in enumerate(split) for _ in range(classes - apart[index])]
        return [*disjoint[0], *blurry, *(each for own in disjoint[1:] for each in own)]
