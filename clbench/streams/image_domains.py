"""Domains made from one dataset: every image with its pixels permuted, or rotated, in a different way in each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge, Le

from clbench.base.config import OMIT_DEFAULT, config
from clbench.errors import UsageError
from clbench.streams.stream_kind import LARGEST, StreamKind

if TYPE_CHECKING:
    from torch import Tensor


@config
class Domains(StreamKind):
    """All classes in every experience, with images that are changed in a different way in each."""

    takes_split: ClassVar[bool] = False

    experiences: Annotated[int, Ge(2), Le(LARGEST)] = 10
    """Number of domains."""

    def new_classes(self, split: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of classes of a domain for each experience; `split` are those of one domain."""
        return (sum(split),) * self.experiences


@config
class Permuted(Domains):
    """Pixels permuted (Goodfellow et al. 2014, arXiv 1312.6211): a permutation is drawn for each experience.

    The permutations are those of Avalanche's PermutedMNIST for the same seed.
    """

    def domains(self, seed: int) -> tuple[str, ...]:
        """Return a name for each permutation."""
        return tuple(f"permutation {index + 1}" for index in range(self.experiences))

    def pixel_maps(self, height: int, width: int, seed: int) -> Tensor:
        """Return the permutations, (experiences, height·width)."""
        import numpy as np
        import torch

        drawing = np.random.RandomState(seed)
        drawn = [drawing.permutation(height * width) for _ in range(self.experiences)]
        return torch.from_numpy(np.stack(drawn).astype(np.int64))


@config
class Rotated(Domains):
    """Images rotated (Lopez-Paz & Ranzato 2017, arXiv 1706.08840): an angle is drawn for each experience.

    Angles and rotated images are those of Avalanche's RotatedMNIST for the same seed, whose angles may repeat; within
    narrower bounds they are all different.
    """

    smallest_angle: Annotated[int, Ge(-180), Le(180), OMIT_DEFAULT] = -180
    """Smallest angle that can be drawn; degrees, counter-clockwise. Avalanche draws from -180 to 180."""

    largest_angle: Annotated[int, Ge(-180), Le(180), OMIT_DEFAULT] = 180
    """Largest angle that can be drawn; degrees, counter-clockwise."""

    replaces: ClassVar[Mapping[str, tuple[str, ...]]] = {"angles": ("experiences", "smallest_angle", "largest_angle")}

    angles: tuple[int, ...] = ()
    """Degrees, counter-clockwise, instead of drawn angles: 0,45,90; then there are as many experiences."""

    def new_classes(self, split: tuple[int, ...]) -> tuple[int, ...]:
        """Return the number of classes of a domain for each experience."""
        if self.angles:
            self._check_angles()
        elif self.smallest_angle > self.largest_angle:
            raise UsageError(
                f"stream.smallest_angle = {self.smallest_angle} is larger than stream.largest_angle ="
                f" {self.largest_angle}"
            )
        elif self._narrowed and self.largest_angle - self.smallest_angle + 1 < self.experiences:
            raise UsageError(
                f"there are fewer whole angles from {self.smallest_angle} to {self.largest_angle} degrees than the"
                f" {self.experiences} experiences"
            )
        return (sum(split),) * len(self._angles(0))

    def _check_angles(self) -> None:
        """Raise UsageError for angles that do not make a stream of domains."""
        if len(self.angles) < 2 or len({angle % 360 for angle in self.angles}) < len(self.angles):
            raise UsageError(
                f"stream.angles must be two or more different angles (got {', '.join(map(str, self.angles))})"
            )
        if self.experiences not in (type(self).experiences, len(self.angles)):
            raise UsageError(
                f"stream.experiences = {self.experiences} has no effect: there are {len(self.angles)} stream.angles"
            )
        for name in ("smallest_angle", "largest_angle"):
            if getattr(self, name) != getattr(type(self), name):
                raise UsageError(f"stream.{name} has no effect: none is drawn, since there are stream.angles")

    def domains(self, seed: int) -> tuple[str, ...]:
        """Return the angle of each domain."""
        return tuple(f"{angle}°" for angle in self._angles(seed))

    def pixel_maps(self, height: int, width: int, seed: int) -> Tensor:
        """Return the source of each pixel in each rotation, (experiences, height·width); -1 if it has none."""
        import numpy as np
        import torch
        from PIL import Image

        # An image of the pixels' indices is rotated like any other: to the nearest pixel, about the centre.
        numbers = Image.fromarray(np.arange(1, height * width + 1, dtype=np.int32).reshape(height, width))
        maps = [np.asarray(numbers.rotate(angle, fillcolor=0), dtype=np.int64) - 1 for angle in self._angles(seed)]
        return torch.from_numpy(np.stack(maps).reshape(len(maps), -1))

    def _angles(self, seed: int) -> tuple[int, ...]:
        import numpy as np

        if self.angles:
            return self.angles
        drawing = np.random.RandomState(seed)
        if self._narrowed:
            possible = range(self.smallest_angle, self.largest_angle + 1)
            return tuple(drawing.choice(possible, self.experiences, replace=False).tolist())
        return tuple(int(drawing.randint(-180, 181)) for _ in range(self.experiences))

    @property
    def _narrowed(self) -> bool:
        return (self.smallest_angle, self.largest_angle) != (type(self).smallest_angle, type(self).largest_angle)
