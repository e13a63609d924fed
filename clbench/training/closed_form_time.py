"""Estimate how long closed forms will take to compute, since unlike gradient steps they show no progress."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import Any

import torch

from clbench.base.events import Listener, Note
from clbench.base.feature_strategy import FeatureStrategy
from clbench.base.strategy import Strategy
from clbench.system.output import duration

LONG = 20.0
"""Seconds; longer times are announced."""

_WORTH_A_MEASUREMENT = 1e11
"""A number of operations that takes a second or more on any CPU."""

_SIZE = 3072


def closed_form_time(
    strategies: Iterable[Strategy[Any]], experiences: Iterable[tuple[int, int]], features: int, device: torch.device
) -> str | None:
    """Return how long the closed forms of strategies will take, in words: `about 40 seconds`; None if it is not long.

    `experiences` are the numbers of images and of new classes of each experience to come, `features` is the trunk's
    number of features. The computation is on the device, with torch's current number of threads.
    """
    parts = list(experiences)
    operations = sum(
        strategy.operations(images, classes, features)
        for strategy in strategies
        if isinstance(strategy, FeatureStrategy)
        for images, classes in parts
    )
    if operations < _WORTH_A_MEASUREMENT:
        return None
    seconds = operations / _operations_per_second(device, torch.get_num_threads())
    return f"about {duration(seconds)}" if seconds > LONG else None


class ClosedFormWatch:
    """Announces once per run how long all its closed forms take, if that is long."""

    def __init__(self, run: str, notify: Listener, images: Sequence[int], classes: Sequence[int]) -> None:
        """`images` and `classes` are the numbers of each experience."""
        self._run, self._notify = run, notify
        self._experiences = list(zip(images, classes, strict=True))
        self._said = False

    def announce(self, strategy: Strategy[Any], index: int, features: int, device: torch.device) -> None:
        """Called before the closed form of experience `index`."""
        if self._said:
            return
        self._said = True
        if time := closed_form_time([strategy], self._experiences[index:], features, device):
            self._notify(Note(f"{self._run}: its closed form takes {time}"))


@functools.cache
def _operations_per_second(device: torch.device, threads: int) -> float:
    """Return how fast the device decomposes a float64 matrix, with `threads` as the current number of threads."""
    matrix = torch.full((_SIZE, _SIZE), 0.5, dtype=torch.float64, device=device)
    matrix.diagonal().fill_(_SIZE)
    seconds = []
    for _ in range(2):  # the first may load libraries
        began = perf_counter()
        factor, _ = torch.linalg.cholesky_ex(matrix)
        factor.sum().item()  # waits for a GPU
        seconds.append(perf_counter() - began)
    return _SIZE**3 / 3 / min(seconds)
