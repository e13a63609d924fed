"""`clbench profile`: every second of a run is in one part, and nothing of the run is kept."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clbench.diagnostics.profile import PARTS, Profile, profile
from clbench.errors import ClbenchError, UsageError
from clbench.runs.request import Request
from clbench.training.costs import PHASES, PhaseTimer

SLOW = """
import time

import clbench


class Slow(clbench.Strategy):
    def loss(self, batch):
        time.sleep(0.01)
        return batch.cross_entropy()
"""


def request(strategy: str, data: Path, **options: Any) -> Request:
    return Request([strategy], ["splitdigits"], epochs=1, device="cpu", threads=1, data=data, **options)


@pytest.fixture
def quiet() -> Console:
    return Console(quiet=True)


def test_the_parts_add_up_to_the_time_that_the_command_takes(data: Path, quiet: Console) -> None:
    began = time.perf_counter()
    found = profile(request("lwf", data), quiet)
    took = time.perf_counter() - began
    assert set(found.seconds) == set(PARTS)
    assert sum(found.seconds.values()) == pytest.approx(took, abs=0.5)
    for part in ("start-up", "data", "forward", "backward", "optimizer", "strategy", "evaluation"):
        assert found.seconds[part] > 0, part


def test_time_spent_in_a_strategys_loss_counts_as_the_strategys(tmp_path: Path, data: Path, quiet: Console) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    found = profile(request(str(tmp_path / "slow.py"), data), quiet)
    assert found.seconds["strategy"] > 0.01 * found.gradient_steps
    assert found.seconds["strategy"] > found.seconds["forward"] + found.seconds["backward"]


def test_parts_of_a_step_are_given_in_milliseconds_per_step() -> None:
    seconds = dict.fromkeys(PARTS, 0.0) | {"forward": 3.0, "evaluation": 1.0}
    found = Profile("a/b/c", "cpu", 1, seconds, gradient_steps=600, samples_seen=8000, training_seconds=4.0)
    assert found.rows() == [
        ("forward", "3.00", "75.0 %", "5.00", PARTS["forward"]),
        ("evaluation", "1.00", "25.0 %", "", PARTS["evaluation"]),
        ("all", "4.00", "100.0 %", "", ""),
    ]
    assert found.summary() == "600 gradient steps, 8,000 images seen in training, 2,000 images/s"


def test_a_run_without_gradient_steps_has_no_time_per_step() -> None:
    seconds = dict.fromkeys(PARTS, 0.0) | {"forward": 3.0}
    found = Profile("a/b/c", "cpu", 1, seconds, gradient_steps=0, samples_seen=0, training_seconds=0.0)
    assert found.rows()[0] == ("forward", "3.00", "100.0 %", "", PARTS["forward"])
    assert found.summary() == "0 gradient steps, 0 images seen in training"


@pytest.mark.slow
def test_more_than_one_run_is_refused(data: Path, quiet: Console) -> None:
    with pytest.raises(UsageError, match="takes a single run"):
        profile(request("all", data), quiet)


def test_a_strategy_that_fails_is_an_error_and_no_table(tmp_path: Path, data: Path, quiet: Console) -> None:
    (tmp_path / "failing.py").write_text(SLOW.replace("time.sleep(0.01)", "raise ValueError('no')"))
    with pytest.raises(ClbenchError, match="ValueError: no"):
        profile(request(str(tmp_path / "failing.py"), data), quiet)


@pytest.mark.slow
def test_the_command_prints_the_parts_and_leaves_nothing_behind(tmp_path: Path, data: Path) -> None:
    command = [sys.executable, "-m", "clbench", "profile", "-s", "lwf", "-S", "splitdigits", "--epochs", "1"]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "check": True}
    done = subprocess.run([*command, "--threads", "1", "--data", str(data)], **options)
    for part in ("start-up", "data", "forward", "backward", "optimizer", "strategy", "evaluation"):
        assert any(line.startswith(part) for line in done.stdout.splitlines()), part
    assert "images/s" in done.stdout
    assert list(tmp_path.iterdir()) == []
    done = subprocess.run([*command, "--threads", "1", "--data", str(data), "--json"], **options)
    assert set(json.loads(done.stdout)["seconds"]) == set(PARTS)
    command = [*command[:-2], "--stream", "online", "--set", "stream.samples=40"]
    done = subprocess.run([*command, "--data", str(data)], **options)
    assert "20 gradient steps" in done.stdout  # 5 experiences of 40 images, 10 at once


def test_a_phase_timer_is_in_one_phase_at_a_time_and_waits_at_every_change() -> None:
    waits = []
    watch = PhaseTimer(lambda: waits.append(1))
    watch.enter("forward")
    time.sleep(0.02)
    watch.enter("backward")
    seconds = watch.read()
    assert seconds["forward"] >= 0.02 > seconds["backward"]
    assert set(seconds) == set(PHASES) and len(waits) == 3
