"""How long planned runs will take, against times worked out by hand from runs whose seconds are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clbench.results.record_model import to_json
from clbench.runs import expected_time as module
from clbench.runs.expected_time import expected_time
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request


def planned(request: Request) -> list[Planned]:
    return plan(request, lambda event: None)


def request(data: Path, out: Path, **asked: Any) -> Request:
    given: dict[str, Any] = {"strategy": ["naive"], "seeds": (0, 1, 2), **asked}
    return Request(scenario=["splitdigits"], device="cpu", data=data, out=out, **given)


def store(run: Planned, out: Path, seconds: float) -> None:
    """As much of a stored run as an estimate looks at; a second of it is before its first experience."""
    folder = out / run.name
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(to_json(run.spec)))
    costs = {"totals": {"seconds": seconds - 1}, "start_up_seconds": 1.0}
    (folder / "costs.json").write_text(json.dumps(costs))


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.runs.parallelism.available_cores", lambda: 4)


def test_it_is_the_mean_of_the_stored_runs_of_the_kind_for_the_jobs_given(data: Path, tmp_path: Path) -> None:
    earlier = planned(request(data, tmp_path, seeds=(7, 8)))
    for run, seconds in zip(earlier, (60.0, 180.0), strict=True):
        store(run, tmp_path, seconds)
    to_do = planned(request(data, tmp_path))
    one = expected_time(to_do, request(data, tmp_path))
    assert one.by_run == {run.name: (120.0, 2) for run in to_do}
    assert one.text == f"About 6 minutes with --jobs 1, from 2 runs in {tmp_path} like these."
    assert expected_time(to_do, request(data, tmp_path, jobs=2)).text.startswith("About 4 minutes with --jobs 2")
    assert expected_time(to_do, request(data, tmp_path, jobs="auto")).text.startswith(
        "About 2 minutes with --jobs auto"
    )


def test_the_longest_begin_first() -> None:
    # Two at once: 5, then 4 and 3 in turn; 5+2 and 4+3 end together.
    assert module._until_all_are_done([2.0, 3.0, 4.0, 5.0], 2) == 7.0


@pytest.mark.slow
def test_runs_of_another_kind_tell_nothing(data: Path, tmp_path: Path) -> None:
    for other in (
        {"strategy": ["l2"]},
        {"epochs": 1},
        {"split": "2"},
        {"setting": "task"},
        {"threads": 2},
        {"tune": "chf"},
        {"network": "cnn"},
        {"set": {"recipe.lr": "0.01"}},
    ):
        (run,) = planned(request(data, tmp_path, seeds=(7,), **other))
        store(run, tmp_path, 60.0)
    to_do = planned(request(data, tmp_path))
    found = expected_time(to_do, request(data, tmp_path))
    assert found.by_run == {}
    assert found.text == f"How long they take is unknown: no run stored in {tmp_path} is like these."


def test_what_nothing_is_known_of_is_counted(data: Path, tmp_path: Path) -> None:
    store(planned(request(data, tmp_path, seeds=(7,)))[0], tmp_path, 60.0)
    asked = request(data, tmp_path, strategy=["naive", "l2"])
    found = expected_time(planned(asked), asked)
    assert found.text == (
        f"About 3 minutes with --jobs 1, from one run in {tmp_path} like these; nothing is known about 3 runs, which "
        "come on top."
    )
    assert len(found.by_run) == 3


def test_damaged_runs_tell_nothing(data: Path, tmp_path: Path) -> None:
    for seed, damage in enumerate(("{", "[]", "{}", '{"totals": {"seconds": "x"}}')):
        (run,) = planned(request(data, tmp_path, seeds=(7 + seed,)))
        store(run, tmp_path, 60.0)
        (tmp_path / run.name / "costs.json").write_text(damage)
    assert expected_time(planned(request(data, tmp_path)), request(data, tmp_path)).by_run == {}


def test_nothing_to_do_takes_no_time(data: Path, tmp_path: Path) -> None:
    assert expected_time([], request(data, tmp_path)).text == ""


def test_on_a_cluster_it_is_the_time_one_after_the_other(data: Path, tmp_path: Path) -> None:
    store(planned(request(data, tmp_path, seeds=(7,)))[0], tmp_path, 60.0)
    asked = request(data, tmp_path, on="ray")
    assert expected_time(planned(asked), asked).text.startswith("About 3 minutes one after the other, from one run")
