"""The base of all kinds of streams: which training samples make up each experience, and what comes with them.

A kind is a frozen class of options, as a recipe is. It works on positions: the class of a training sample is its place
in the class order, so that a kind needs to know neither the classes' names nor their images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from clbench.base.config import config
from clbench.system.seeds import derive

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 10_000
"""Most experiences that a stream may have; each adds a line to what a run stores."""


@config
class StreamKind:
    """A stream whose experiences divide the classes as the split says, each class once."""

    takes_split: ClassVar[bool] = True
    """Whether the split of the classes has an effect."""

    passes: ClassVar[int | None] = None
    """Number of passes over an experience's data, if the recipe does not choose it."""

    boundaries: ClassVar[bool] = True
    """Whether a strategy is told where an experience begins and ends."""

    classes_return: ClassVar[bool] = False
    """Whether samples of a class come in more than one experience."""

    replaces: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """For an option, which other options have no effect if it is given."""

    samples: Annotated[int, Ge(0)] = 0
    """Training samples of each experience, drawn at random, at least one of each new class; 0 keeps all."""

    evaluate_every: Annotated[int, Ge(0)] = 0
    """Gradient steps between two evaluations within an experience; 0 evaluates only at its end."""

    def new_classes(self, split: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many classes come for the first time in each experience, in the class order.

        `split` is the number of classes of each experience. Raises UsageError if it does not suit the options.
        """
        return split

    def check_images(self, images: Sequence[int], split: tuple[int, ...]) -> None:
        """Raise UsageError if there are too few training images; `images` are those of each class, in class order."""

    def domains(self, seed: int) -> tuple[str, ...]:
        """Return the name of each domain, if every image comes in several; otherwise nothing.

        With d domains a stream of c classes has d·c, those of the first domain before those of the second.
        """
        return ()

    def pixel_maps(self, height: int, width: int, seed: int) -> Tensor | None:
        """Return for each domain the source of every pixel, (d, height·width) of int64, -1 for black.

        None if images stay as they are.
        """
        return None

    def rows(self, positions: Tensor, split: tuple[int, ...], seed: int) -> tuple[Tensor, ...]:
        """Return the rows of the training samples of each experience, (n,) each.

        `positions` (n,) are the places of all samples' classes in the class order.
        """
        return experience_rows(positions, split)

    def sampled(self, rows: tuple[Tensor, ...], positions: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return `samples` of each experience's rows, or all if it is 0, drawn at random, ascending.

        `positions` are those of all samples' classes. A class of which none would be drawn in its first experience has
        its first sample in the place of the last one of a class that can spare it.
        """
        import torch

        if not self.samples:
            return rows
        generator = torch.Generator().manual_seed(derive(seed, "samples"))
        drawn, seen = [], set[int]()
        for own in rows:
            shuffled = own[torch.randperm(len(own), generator=generator)]
            classes = positions[shuffled].tolist()
            kept = list(range(min(self.samples, len(own))))
            for missing in sorted(set(classes) - {classes[at] for at in kept} - seen):
                counts = Counter(classes[at] for at in kept)
                spared = next(i for i in reversed(kept) if counts[classes[i]] > 1 or classes[i] in seen)
                kept[kept.index(spared)] = classes.index(missing)
            drawn.append(shuffled[kept].sort().values)
            seen |= set(classes)
        return tuple(drawn)

    def labels(self, positions: Tensor, split: tuple[int, ...], seed: int) -> Tensor:
        """Return the positions that training sees, (n,): `positions` itself if the labels are correct."""
        return positions


def experience_rows(positions: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Return the rows of the samples of each experience, ascending, (n,) each.

    `positions` (n,) are the positions of all samples' classes; experience i has the next `sizes[i]` of them.
    """
    import numpy as np
    import torch

    experience = np.repeat(np.arange(len(sizes)), sizes)[positions.numpy()]  # (n,)
    order = np.argsort(experience, kind="stable")
    parts = np.split(order, np.searchsorted(experience[order], np.arange(1, len(sizes))))
    return tuple(torch.from_numpy(part) for part in parts)
