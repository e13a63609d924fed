"""Reduces the losses of all steps to a few hundred points per experience."""

from __future__ import annotations

import math
from collections.abc import Iterator

from clbench.base.events import StepsTaken

MOST_POINTS = 200
"""Per experience: a tracker takes longer for one point than a small network for one step."""

Point = tuple[int, dict[str, float]]
"""The gradient step of the run, and values by name."""


class Points:
    """Thins out the steps of one run, always in the same way: a point is the mean loss since the point before."""

    def __init__(self) -> None:
        self._experience: int | None = None
        self._losses: list[float] = []
        self._point: Point | None = None

    def add(self, taken: StepsTaken) -> Iterator[Point]:
        """Yield the points that these steps complete."""
        if taken.experience != self._experience:
            self._experience, self._before = taken.experience, taken.step - len(taken.losses)
            self._losses.clear()
        every = math.ceil(taken.of / MOST_POINTS)
        first = taken.step - len(taken.losses) + 1
        for step, (loss, rate) in enumerate(zip(taken.losses, taken.learning_rates, strict=True), first):
            self._losses.append(loss)
            self._point = (
                step,
                {
                    "training/loss": math.fsum(self._losses) / len(self._losses),
                    "training/learning_rate": rate,
                    "training/images_per_second": taken.images_per_second,
                    "training/experience": taken.experience,
                    "training/epoch": taken.epoch,
                },
            )
            if (step - self._before) % every == 0:
                yield from self.rest()

    def rest(self) -> Iterator[Point]:
        """Yield the point of the steps that are left at the end of an experience, if there are any."""
        if self._point is not None:
            yield self._point
        self._losses.clear()
        self._point = None
