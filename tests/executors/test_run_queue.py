"""The order in which the runs of a grid are executed."""

from __future__ import annotations

from pathlib import Path

import stored_runs

from clbench.executors.run_queue import RunQueue
from clbench.plugins.discovery import Plugin
from clbench.runs.planned_runs import Planned


def grid(*strategies: tuple[str, str | None], seeds: int) -> list[Planned]:
    def run(name: str, reference: str | None, seed: int) -> Planned:
        spec = stored_runs.spec_of(name, seed, "", {}, "r", "s", (2, 2), None, 1)
        attributes = {"reference": reference} if reference else {}
        return Planned(spec, Plugin("strategy", name, Path(name), "path", "", attributes=attributes))

    return [run(name, reference, seed) for seed in range(seeds) for name, reference in strategies]


def taken(turns: RunQueue, runs: int) -> list[tuple[str, int]]:
    order = [turns.take() for _ in range(runs)]
    return [(run.spec.strategy.name, run.spec.seeds.run) for run in order]


def test_every_seed_begins_before_any_has_a_second_run_and_the_upper_reference_comes_first() -> None:
    turns = RunQueue(grid(("naive", "lower"), ("lwf", None), ("joint", "upper"), seeds=2))
    assert taken(turns, 6) == [(name, seed) for name in ("joint", "naive", "lwf") for seed in (0, 1)]


def test_what_took_longest_so_far_comes_next_after_what_has_not_run_yet() -> None:
    turns = RunQueue(grid(("frozen", None), ("joint", "upper"), ("naive", "lower"), seeds=3))
    turns.took(turns.take(), 14.0)
    assert taken(turns, 1) == [("frozen", 0)]
    turns.took(grid(("frozen", None), seeds=1)[0], 2.0)
    assert taken(turns, 1) == [("naive", 0)]
    turns.took(grid(("naive", "lower"), seeds=1)[0], 5.0)
    assert taken(turns, 6) == [(name, seed) for name in ("joint", "naive", "frozen") for seed in (1, 2)]


def test_a_long_run_that_was_resumed_is_still_a_long_one() -> None:
    turns = RunQueue(grid(("naive", "lower"), ("joint", "upper"), seeds=4))
    runs = {run.spec.strategy.name: run for run in grid(("naive", "lower"), ("joint", "upper"), seeds=1)}
    for name, seconds in (("joint", 14.0), ("naive", 5.0), ("joint", 1.0)):
        turns.took(runs[name], seconds)
    assert taken(turns, 5) == [("joint", 0), ("joint", 1), ("joint", 2), ("joint", 3), ("naive", 0)]
