"""Accuracy on an experience before it is learned, if experiences share their outputs: forward transfer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clbench.evaluation.counts import Counts, check_row, require

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Ahead:
    """Integer counts of one domain-incremental run. Raises ValueError if they are not of one stream."""

    untrained: tuple[int, ...]
    """Test samples of each of E experiences that the network classifies correctly with its initial weights."""

    following: tuple[int | None, ...]
    """following[i]: test samples of experience i+1 classified correctly after experience i, E entries; None for the
    last, and if there was no evaluation i."""

    def __post_init__(self) -> None:
        check_row(self.untrained, "untrained")
        check_row(tuple(count for count in self.following if count is not None), "following")
        require(len(self.untrained) == len(self.following) > 0, "untrained and following differ in length")
        require(self.following[-1] is None, "following has a count after the last experience")


def forward_transfer(counts: Counts, ahead: Ahead) -> float | None:
    """1/(E-1) · Σ_{1≤j<E} (R[j-1][j] - b[j]), b[j] being the accuracy of the network with its initial weights.

    In [-1, 1]; None for one experience, and if an evaluation is missing. Lopez-Paz & Ranzato 2017.
    """
    gains = [
        None if right is None else (right - untrained) / total
        for right, untrained, total in zip(ahead.following, ahead.untrained[1:], counts.total[1:], strict=False)
    ]
    defined = [gain for gain in gains if gain is not None]
    return math.fsum(defined) / len(defined) if 0 < len(defined) == len(gains) else None


def count_ahead(
    predictions: Sequence[ArrayLike] | NDArray[Any],
    untrained: ArrayLike,
    labels: ArrayLike,
    experience_classes: Sequence[Sequence[int]],
    evaluated: Sequence[bool],
) -> Ahead:
    """Count from class ids of a domain-incremental run: `predictions` (E, N) after each experience, `untrained` (N,)
    before the first, `labels` (N,) and `evaluated` (E,) as in `counts.count`.

    Raises ValueError for a prediction that is not a class of the sample's own experience, such as -1 for none.
    """
    import numpy as np

    truth = np.asarray(labels)
    own = [np.flatnonzero(np.isin(truth, classes)) for classes in experience_classes]

    def right(row: ArrayLike, j: int) -> int:
        guess = np.asarray(row)[own[j]]
        require(
            bool(np.isin(guess, experience_classes[j]).all()), f"a prediction for experience {j} is not a class of it"
        )
        return int(np.count_nonzero(guess == truth[own[j]]))

    last = len(own) - 1
    following = (right(predictions[i], i + 1) if i < last and evaluated[i] else None for i in range(len(own)))
    return Ahead(tuple(right(untrained, j) for j in range(len(own))), tuple(following))
