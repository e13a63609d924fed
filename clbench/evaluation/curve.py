"""The evaluations of a run within its experiences, between gradient steps, as integer counts.

The evaluation at the end of an experience is in `Counts` and comes last: a metric of both takes the points of an
experience and then that row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

from clbench.evaluation.counts import Counts, check_row, frozen_lists, lists, require


@dataclass(frozen=True)
class Curve:
    """The evaluations of one run within its experiences, in one setting. Raises ValueError if inconsistent."""

    steps: tuple[int, ...]
    """Gradient steps since the start of the stream at each of P points, ascending; ends are in Counts."""
    experiences: tuple[int, ...]
    """The experience that is trained at each point, P of them."""
    correct: tuple[tuple[int, ...], ...]
    """correct[p][j], j ≤ experiences[p]: test samples of experience j classified correctly at point p."""

    def __post_init__(self) -> None:
        for name in ("steps", "experiences"):
            check_row(getattr(self, name), name)
        for p, row in enumerate(self.correct):
            check_row(row, f"correct[{p}]")
        points = len(self.steps)
        for name in ("experiences", "correct"):
            length = len(getattr(self, name))
            require(length == points, f"{name} has {length} entries for {points} points")
        require(all(a < b for a, b in pairwise((0, *self.steps))), f"steps do not ascend from 1: {self.steps}")
        require(all(a <= b for a, b in pairwise(self.experiences)), f"experiences do not ascend: {self.experiences}")
        for p, (row, experience) in enumerate(zip(self.correct, self.experiences, strict=True)):
            require(len(row) == experience + 1, f"correct[{p}] has {len(row)} entries, not {experience + 1}")

    def check_against(self, counts: Counts) -> None:
        """Raise ValueError if the curve is not of the same stream as these counts."""
        for p, (row, experience) in enumerate(zip(self.correct, self.experiences, strict=True)):
            require(experience < len(counts.total), f"point {p} is in experience {experience} of {len(counts.total)}")
            for j, (right, total) in enumerate(zip(row, counts.total, strict=False)):
                require(right <= total, f"correct[{p}][{j}] is {right}, but there are {total} test samples")

    def within(self, ends: tuple[int, ...]) -> Curve:
        """Return the points without those at the ends of experiences; experience i ends after step `ends[i]`."""
        kept = [p for p, (step, i) in enumerate(zip(self.steps, self.experiences, strict=True)) if step != ends[i]]
        return Curve(*(tuple(getattr(self, field.name)[p] for p in kept) for field in fields(self)))

    def to_json(self) -> dict[str, list[Any]]:
        """Return the fields by name, with tuples as lists."""
        return {field.name: lists(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Curve:
        """Invert `to_json`. Raises ValueError for a missing or unknown field and for contradictory counts."""
        names = {field.name for field in fields(cls)}
        require(names == set(stored), f"a curve has the fields {sorted(names)}, not {sorted(stored)}")
        for name, value in stored.items():
            require(isinstance(value, list), f"{name} is {value!r}, not a list")
        return cls(**{name: frozen_lists(value) for name, value in stored.items()})
