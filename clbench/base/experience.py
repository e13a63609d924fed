"""The current experience as a strategy sees it: its place in the stream, its classes and its training data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from clbench.base.incremental_setting import Setting

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Experience:
    """An experience of the stream, as a strategy sees it."""

    index: int
    """0 for the first experience."""

    classes_per_experience: tuple[int, ...]
    """Number of classes in each experience of the stream."""

    setting: Setting = "class_incremental"
    """The setting of training. In the domain-incremental setting all experiences share the outputs of the first."""

    samples: Samples | None = field(default=None, compare=False, repr=False)
    """The experience's training data, in `training_data`, `before_experience` and `after_experience`; None in all other
    hooks."""

    @property
    def old_classes(self) -> int:
        """Number of outputs in use before this experience: the logits' columns 0 .. old_classes - 1."""
        return sum(self.old_groups)

    @property
    def seen_classes(self) -> int:
        """Number of outputs in use up to and including this experience."""
        if self.setting == "domain_incremental":
            return self.classes_per_experience[0]
        return sum(self.classes_per_experience[: self.index + 1])

    @property
    def old_groups(self) -> tuple[int, ...]:
        """Number of adjacent outputs of each earlier experience; a single group in the domain-incremental setting."""
        if self.setting == "domain_incremental":
            return self.classes_per_experience[:1] if self.index else ()
        return self.classes_per_experience[: self.index]

    @property
    def is_last(self) -> bool:
        """Whether this is the last experience of the stream."""
        return self.index == len(self.classes_per_experience) - 1


class Samples(Protocol):
    """The training data of the current experience, for a strategy to read again after training."""

    def __len__(self) -> int:
        """Number of samples."""

    def batches(self, size: int, generator: Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield x (size, channels, height, width), preprocessed and not augmented, and y (size,) of every sample.

        The order is drawn from `generator`; without one it is the dataset's. The last batch may be smaller.
        """

    def shuffled(self, size: int, augmented: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield x and y of every sample in an order drawn from the run's training seed, the same in every call.

        With `augmented` the images are augmented as in the recipe, with random numbers from the same seed.
        """

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the stored images, (m, height, width, channels) of uint8, and y (m,), at these positions (m,)."""

    def scaled(self, images: Tensor) -> Tensor:
        """Scale stored images as the recipe does, without augmentation: (m, height, width, channels) of uint8 -> x."""
