"""How many runs at once, with how many threads each."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench.errors import UsageError
from clbench.runs import parallelism
from clbench.runs.grid import plan
from clbench.runs.parallelism import advice, jobs_from, runs_at_once, threads_of_a_run
from clbench.runs.request import Request
from clbench.system import machine


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


def test_a_request_from_python_with_impossible_jobs_is_refused(tmp_path: Path, data: Path) -> None:
    for jobs in (0, "some", True):
        with pytest.raises(UsageError, match="--jobs"):
            plan(Request(["naive"], ["splitdigits"], jobs=jobs, data=data, out=tmp_path), lambda event: None)  # type: ignore[arg-type]
