"""Whole runs on a GPU: the same bits each time, also after a crash, and about the accuracies of a CPU."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import clbench
from clbench.results import stored_runs

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to run on"),
]

SCENARIO = """
import clbench


class Carried(clbench.Scenario):
    dataset = "digits"
    split = "5"
    recipes = {
        "adam": clbench.Recipe(
            network="mlp", optimizer="adam", lr=1e-3, optimizer_state="carried", head="fixed", epochs=4
        ),
        "sgd": clbench.Recipe(
            network="cnn", optimizer="sgd", momentum=0.9, lr=0.01, optimizer_state="carried", head="fixed", epochs=4
        ),
    }
"""

# Pulls the weights towards those after the last experience, and is killed once, between two epochs.
STRATEGY = """
import os, signal
from pathlib import Path
import clbench
from clbench import losses

MARK = Path({mark!r})


class Killed(clbench.Strategy):
    def start(self, model):
        self.anchor = []

    def frozen(self, model, experience, epoch):
        if (experience.index, epoch) == (2, 1) and not MARK.exists():
            MARK.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ()

    def loss(self, batch):
        loss = batch.cross_entropy("all")
        if self.anchor:
            loss = loss + losses.squared_distance(batch.model.parameters(), self.anchor)
        return loss

    def after_experience(self, model, experience):
        self.anchor = [weight.detach().clone() for weight in model.parameters()]
"""


def weights(run: Any) -> list[str]:
    """The hash of the weights after each experience."""
    return [experience.weights_sha256 for experience in run.result.experiences]


def test_the_same_command_gives_the_same_bits(tmp_path: Path, data: Path) -> None:
    once, again = (
        clbench.run(
            "lwf,er,icarl", "splitdigits", network="cnn", device="cuda", out=tmp_path / out, data=data, epochs=2
        )
        for out in ("once", "again")
    )
    assert [weights(run) for run in once] == [weights(run) for run in again]


@pytest.mark.parametrize("recipe", ["adam", "sgd"])
def test_a_killed_run_ends_as_one_that_was_not(recipe: str, tmp_path: Path, data: Path) -> None:
    (tmp_path / "carried.py").write_text(SCENARIO)
    mark = tmp_path / "mark"
    (tmp_path / "killed.py").write_text(STRATEGY.format(mark=str(mark)))
    command = [sys.executable, "-m", "clbench", "run", "-s", "killed.py", "-S", "carried.py", "--recipe", recipe]
    command += ["--device", "cuda", "--data", str(data)]

    def run(out: str) -> int:
        done = subprocess.run([*command, "--out", out], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    assert run("killed") == -signal.SIGKILL and mark.exists()
    assert run("killed") == 0 and run("whole") == 0
    ((resumed,), _), ((whole,), _) = (stored_runs.read_all([tmp_path / out]) for out in ("killed", "whole"))
    assert weights(resumed) == weights(whole)
    assert resumed.environment.resumed_after_experiences == 2


def test_every_strategy_ends_near_its_accuracy_on_a_cpu(tmp_path: Path, data: Path) -> None:
    on_gpu, on_cpu = (
        clbench.run("all", "splitdigits", seeds=2, device=device, out=tmp_path / device, data=data)
        for device in ("cuda", "cpu")
    )
    for ours, theirs in zip(on_gpu, on_cpu, strict=True):
        assert final(ours) == pytest.approx(final(theirs), abs=0.05), ours.path


def final(run: Any) -> float:
    return float(run.metric("final_accuracy"))


def test_features_of_a_frozen_trunk_are_nearly_those_of_a_cpu(tmp_path: Path, data: Path) -> None:
    head = {"network.train": "head"}
    on_gpu, on_cpu = (
        clbench.run("slda", "splitdigits", network="cnn", set=head, device=device, out=tmp_path / device, data=data)
        for device in ("cuda", "cpu")
    )
    assert final(on_gpu[0]) == pytest.approx(final(on_cpu[0]), abs=0.02)
