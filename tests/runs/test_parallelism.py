"""How many runs at once, with how many threads each, and in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import stored_runs

import clbench
from clbench.errors import UsageError
from clbench.executors import execute
from clbench.executors.queue import RunQueue
from clbench.plugins.discovery import Plugin
from clbench.runs import parallelism
from clbench.runs.grid import Planned, Request, plan
from clbench.runs.parallelism import advice, jobs_from, runs_at_once, threads_of_a_run
from clbench.system import machine
from clbench.system.signals import Interruption


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallelism, "available_cores", lambda: 4)


def test_jobs_are_a_number_or_auto() -> None:
    assert [jobs_from(text) for text in ("1", "16", "auto")] == [1, 16, "auto"]
    for text in ("0", "-1", "many", "", "1.5", "10001"):
        with pytest.raises(UsageError, match="--jobs"):
            jobs_from(text)


def test_auto_gives_each_core_a_run_of_one_thread() -> None:
    assert threads_of_a_run(None, "auto") == 1
    assert runs_at_once("auto", runs=25, threads=1, device="cpu") == 4
    assert runs_at_once("auto", runs=3, threads=1, device="cpu") == 3


def test_auto_with_threads_asked_for_shares_the_cores_among_them() -> None:
    assert threads_of_a_run(2, "auto") == 2
    assert runs_at_once("auto", runs=25, threads=2, device="cpu") == 2
    assert runs_at_once("auto", runs=25, threads=8, device="cpu") == 1


def test_a_gpu_is_shared_only_by_as_many_runs_as_asked_for() -> None:
    assert runs_at_once("auto", runs=25, threads=1, device="cuda") == 1
    assert runs_at_once(3, runs=25, threads=1, device="cuda") == 3


def test_without_jobs_a_run_has_all_cores() -> None:
    assert threads_of_a_run(None, 1) == 4
    assert runs_at_once(1, runs=25, threads=4, device="cpu") == 1


def test_advice_is_given_where_a_grid_leaves_cores_idle_or_crowds_them() -> None:
    assert "--jobs auto" in str(advice(1, runs=25, threads=4, device="cpu"))
    assert "slow each other down" in str(advice(4, runs=25, threads=4, device="cpu"))
    assert advice("auto", runs=25, threads=1, device="cpu") is None
    assert advice(4, runs=25, threads=1, device="cpu") is None
    assert advice(1, runs=1, threads=4, device="cpu") is None
    assert advice(1, runs=25, threads=4, device="cuda") is None


def test_the_cores_that_count_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert machine.available_cores() == 3


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


def test_what_has_shown_to_take_longest_comes_next_after_what_has_not_run_yet() -> None:
    turns = RunQueue(grid(("frozen", None), ("joint", "upper"), ("naive", "lower"), seeds=3))
    turns.took(turns.take(), 14.0)
    assert taken(turns, 1) == [("frozen", 0)]
    turns.took(grid(("frozen", None), seeds=1)[0], 2.0)
    assert taken(turns, 1) == [("naive", 0)]
    turns.took(grid(("naive", "lower"), seeds=1)[0], 5.0)
    assert taken(turns, 6) == [(name, seed) for name in ("joint", "naive", "frozen") for seed in (1, 2)]


def test_what_is_there_already_is_told_without_starting_what_does_runs(tmp_path: Path, data: Path) -> None:
    options: dict[str, Any] = {"seeds": 2, "epochs": 1, "device": "cpu", "threads": 1, "data": data}
    clbench.run("naive", "splitdigits", out=tmp_path, **options)
    request = Request(["naive"], ["splitdigits"], seeds=(0, 1), epochs=1, device="cpu", threads=1, data=data)
    planned = plan(request, lambda event: None)
    heard: list[Any] = []

    def nothing_is_left_to_do(*args: Any) -> None:
        raise AssertionError("runs that are published were handed on to be done")

    with pytest.MonkeyPatch.context() as patch, Interruption() as interruption:
        patch.setattr(execute, "_execute", nothing_is_left_to_do)
        outcomes = execute.execute_all(planned, replace(request, results=tmp_path), interruption, heard.append)
    assert [outcome.status for outcome in outcomes] == ["skipped", "skipped"]
    assert [event.run for event in heard] == [run.name for run in planned]


def test_a_long_run_that_went_on_from_where_it_was_is_still_a_long_one() -> None:
    turns = RunQueue(grid(("naive", "lower"), ("joint", "upper"), seeds=4))
    runs = {run.spec.strategy.name: run for run in grid(("naive", "lower"), ("joint", "upper"), seeds=1)}
    for name, seconds in (("joint", 14.0), ("naive", 5.0), ("joint", 1.0)):
        turns.took(runs[name], seconds)
    assert taken(turns, 5) == [("joint", 0), ("joint", 1), ("joint", 2), ("joint", 3), ("naive", 0)]


def test_what_a_killed_command_left_of_its_work_is_removed_although_all_runs_are_there(
    tmp_path: Path, data: Path
) -> None:
    options: dict[str, Any] = {"epochs": 1, "device": "cpu", "threads": 1, "data": data, "out": tmp_path}
    (run,) = clbench.run("naive", "splitdigits", **options)
    (tmp_path / ".work" / "first-left").touch()
    left = tmp_path / ".work" / run.result.run_id
    left.mkdir()
    clbench.run("naive", "splitdigits", **options)
    assert list((tmp_path / ".work").iterdir()) == []


def test_only_what_is_missing_or_damaged_is_done_again(tmp_path: Path, data: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "device": "cpu", "threads": 1, "data": data, "out": tmp_path}
    first = clbench.run("naive", "splitdigits", seeds=2, **options)
    (first[1].path / "spec.json").write_text("{}")
    again = clbench.run("naive", "splitdigits", seeds=3, **options)
    assert [run.spec.seeds.run for run in again] == [0, 1, 2]
    assert [run.path for run in again][:2] == [run.path for run in first]
    assert len(list((tmp_path / ".damaged").rglob("spec.json"))) == 1


@pytest.mark.slow
def test_jobs_auto_gives_the_numbers_of_one_run_at_a_time(tmp_path: Path, data: Path) -> None:
    options: dict[str, Any] = {"seeds": 2, "epochs": 1, "device": "cpu", "threads": 1, "data": data}
    together = clbench.run(["naive", "lwf"], "splitdigits", jobs="auto", out=tmp_path / "auto", **options)
    alone = clbench.run(["naive", "lwf"], "splitdigits", jobs=1, out=tmp_path / "one", **options)
    assert [one.spec for one in together] == [one.spec for one in alone]
    for one, other in zip(together, alone, strict=True):
        hashes, others = ([entry.weights_sha256 for entry in run.result.experiences] for run in (one, other))
        assert hashes == others


def test_a_request_from_python_with_impossible_jobs_is_refused(tmp_path: Path, data: Path) -> None:
    for jobs in (0, "some", True):
        with pytest.raises(UsageError, match="--jobs"):
            plan(Request(["naive"], ["splitdigits"], jobs=jobs, data=data, results=tmp_path), lambda event: None)  # type: ignore[arg-type]
