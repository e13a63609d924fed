"""How many runs at once, with how many threads each."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench.errors import UsageError
from clbench.runs import parallelism
from clbench.runs.parallelism import Jobs, advice, jobs_from, runs_at_once
from clbench.runs.planned_runs import plan
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
    assert runs_at_once("auto", runs=25, threads=1, device="cpu") == 4
    assert runs_at_once("auto", runs=3, threads=1, device="cpu") == 3


def test_auto_with_threads_asked_for_shares_the_cores_among_them() -> None:
    assert runs_at_once("auto", runs=25, threads=2, device="cpu") == 2
    assert runs_at_once("auto", runs=25, threads=8, device="cpu") == 1


def test_a_gpu_is_shared_only_by_as_many_runs_as_asked_for() -> None:
    assert runs_at_once("auto", runs=25, threads=1, device="cuda") == 1
    assert runs_at_once(3, runs=25, threads=1, device="cuda") == 3


@pytest.mark.slow
def test_a_run_has_one_id_whatever_the_cores_and_the_jobs(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned(cores: int, jobs: Jobs) -> str:
        monkeypatch.setattr(parallelism, "available_cores", lambda: cores)
        request = Request(["naive"], ["splitdigits"], device="cpu", jobs=jobs, data=data, out=tmp_path)
        return plan(request, lambda event: None)[0].name

    assert len({planned(cores, jobs) for cores in (1, 2, 64) for jobs in (1, 2, "auto")}) == 1


def test_runs_at_once_never_compute_with_more_threads_than_there_are_cores() -> None:
    assert runs_at_once(4, runs=25, threads=2, device="cpu") == 2
    assert runs_at_once(8, runs=25, threads=1, device="cpu") == 4
    assert runs_at_once(2, runs=25, threads=8, device="cpu") == 1


def test_a_grid_that_leaves_cores_idle_or_asks_for_too_many_is_told_so() -> None:
    assert "--jobs auto runs 4 at once" in str(advice(1, runs=25, threads=1, device="cpu"))
    assert "--jobs 4: 2 at once, since there are 4 cores" in str(advice(4, runs=25, threads=2, device="cpu"))
    assert advice(1, runs=25, threads=4, device="cpu") is None
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
