"""Calibrates, on held-out images, the score below which an image shows none of a network's classes.

The highest score itself is compared, whatever the classifier: a logit, a cosine, a regression's output, or minus a
distance. docs/networks.md compares it with the softmax's probability, the energy and the margin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from clbench.results.network_record import NoneBelow

_PERCENT_BELOW = 5


def calibrated(judged: Iterable[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]) -> NoneBelow | None:
    """Return the highest score that at least 95 % of the recognized images reach; None if none is recognized.

    `judged` are scores (n, classes) and labels (n,) of images that were not trained on. Misclassified images do not
    count: nothing is lost if no class is predicted for them.
    """
    highest, classes = list[float](), set[int]()
    for scores, labels in judged:
        recognized = scores.argmax(axis=1) == labels
        highest += scores[recognized].max(axis=1).tolist()
        classes.update(labels[recognized].tolist())
    if not highest:
        return None
    return NoneBelow(score=reached(highest), images=len(highest), classes=len(classes))


def reached(values: Sequence[float]) -> float:
    """Return the highest of the values that at least 95 % of them reach."""
    return sorted(values)[_PERCENT_BELOW * len(values) // 100]
