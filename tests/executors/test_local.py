"""Runs on this machine: which are executed again, and in which processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import clbench
from clbench.executors.executor import Command
from clbench.executors.local import Local
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request
from clbench.system.signals import Interruption


@pytest.mark.slow
def test_published_runs_are_reported_without_starting_anything(tmp_path: Path, data: Path) -> None:
    options: dict[str, Any] = {"seeds": 2, "epochs": 1, "device": "cpu", "threads": 1, "data": data}
    clbench.run("naive", "splitdigits", out=tmp_path, **options)
    request = Request(["naive"], ["splitdigits"], seeds=(0, 1), epochs=1, device="cpu", threads=1, data=data)
    planned = plan(request, lambda event: None)
    heard: list[Any] = []

    def nothing_is_left_to_do(*args: Any) -> None:
        raise AssertionError("runs that are published were handed on to be done")

    with pytest.MonkeyPatch.context() as patch, Interruption() as interruption:
        patch.setattr(Local, "do", nothing_is_left_to_do)
        outcomes = Local(Command(request, interruption, heard.append)).execute(planned, tmp_path)
    assert [outcome.status for outcome in outcomes] == ["skipped", "skipped"]
    assert [event.run for event in heard] == [run.name for run in planned]


@pytest.mark.slow
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


@pytest.mark.slow
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


# Python runs a module of this name when it starts; this one notes who imports torch and how each process was started.
WITNESS = """
import json, os, sys

class Witness:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            with open(os.environ["WITNESSED"], "a") as file:
                file.write(json.dumps([os.getpid(), sys.orig_argv]) + "\\n")

sys.meta_path.insert(0, Witness())
"""


@pytest.mark.slow
def test_a_command_starts_each_worker_once_and_each_worker_imports_torch_once(tmp_path: Path, data: Path) -> None:
    options = ["-s", "naive,lwf", "--tune", "grid", "--set", "lwf.alpha=1,2", "--seeds", "2"]
    runs = 4 + 4  # the trials of lwf, and then, by the same workers, the runs that they choose and those of naive
    (tmp_path / "sitecustomize.py").write_text(WITNESS)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "WITNESSED": str(tmp_path / "witnessed")}
    what = ["-S", "splitdigits", "--epochs", "1", "--threads", "1", "--device", "cpu", *options]
    where = ["--jobs", "2", "--data", str(data), "--out", str(tmp_path / "results")]
    command = [sys.executable, "-m", "clbench", "run", *what, *where]
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=300)
    results = tmp_path / "results"
    assert len([*results.glob("*/*/*/MANIFEST.json"), *results.glob(".tuning/*/*/*/MANIFEST.json")]) == runs
    imports = [json.loads(line) for line in (tmp_path / "witnessed").read_text().splitlines()]
    assert len({process for process, _ in imports}) == len(imports) == 3
    assert sum("clbench.executors.worker" in arguments for _, arguments in imports) == 2
