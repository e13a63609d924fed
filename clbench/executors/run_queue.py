"""The order in which the runs of a grid are executed when several run at once."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable

from clbench.runs.planned_runs import Planned


class RunQueue:
    """The runs that have not been started yet; safe to use from several threads.

    What is likely to take longest comes first, so that at the end no core is left with a long run while the others are
    idle. How long a strategy takes on a scenario is known from its first run; until then it may be very long.
    """

    def __init__(self, runs: Iterable[Planned]) -> None:
        runs = list(runs)
        self._left = sorted(runs, key=_round_of(runs))
        self._seconds: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def take(self) -> Planned:
        """Return the run to begin now."""
        with self._lock:
            run = max(self._left, key=lambda run: self._seconds.get(_kind(run), math.inf))
            self._left.remove(run)
            return run

    def took(self, run: Planned, seconds: float) -> None:
        """Note how long a finished run took; one that resumes after an interruption takes less."""
        with self._lock:
            self._seconds[_kind(run)] = max(seconds, self._seconds.get(_kind(run), 0.0))


def _kind(run: Planned) -> tuple[str, str]:
    """Return what runs that take about equally long have in common: scenario and strategy."""
    scenario, strategy, _ = run.name.split("/")
    return scenario, strategy


def _round_of(runs: Iterable[Planned]) -> Callable[[Planned], int]:
    """Return in which round a run comes: the first of each scenario and seed, then the second of each, and so on.

    What the runs of a seed share is then made by one of them while others make another seed's, and none waits. The
    first is an upper reference, if there is one: it may train on everything again.
    """
    counts: Counter[tuple[str, int]] = Counter()
    rounds: dict[str, int] = {}
    for run in sorted(runs, key=lambda run: run.plugin.attributes.get("reference") != "upper"):
        group = (run.spec.scenario.name, run.spec.seeds.run)
        rounds[run.name] = counts[group]
        counts[group] += 1
    return lambda run: rounds[run.name]
