"""The small runs on which a strategy is checked, each made once however many checks use it."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import weakref
from pathlib import Path

from rich.console import Console

from clbench.api.comparing import run_request, stored
from clbench.checks.check import CheckFailed, Skipped
from clbench.data.datasets import fetch
from clbench.errors import UsageError
from clbench.plugins.discovery import Plugin
from clbench.results.stored_run import StoredRun
from clbench.runs.request import Request
from clbench.system.own_python import module_command

SCENARIO = '''"""Digits with small networks: what `clbench check` runs strategies on."""

import clbench
from clbench import Augmentation, Recipe

MLP = {"network": "mlp", "optimizer": "adam", "lr": 1e-3}
CNN = {"network": "cnn", "optimizer": "sgd", "lr": 0.05, "momentum": 0.9}


class Contract(clbench.Scenario):
    dataset = "digits"
    split = "5"
    recipes = {
        f"{name}{suffix}": Recipe(**values, head=head)
        for suffix, head in (("", "growing"), ("-fixed", "fixed"))
        for name, values in {
            "mlp": {**MLP, "batch_size": 40, "epochs": 2},
            "cnn": {**CNN, "batch_size": 40, "epochs": 1},
            "augmented": {**CNN, "batch_size": 40, "epochs": 1, "augmentation": Augmentation(crop=1, flip=True)},
            "single": {**MLP, "batch_size": 1, "iterations": 6},
            "few": {**MLP, "batch_size": 16, "iterations": 2},
        }.items()
    }
'''


def quiet_run(request: Request) -> list[StoredRun]:
    """Execute the runs of a request without output. Raises CheckFailed if the first fails."""
    nowhere = Console(file=io.StringIO(), force_jupyter=False)
    outcomes = run_request(request, nowhere)
    if outcomes[0].failed:
        trace = (outcomes[0].path / "traceback.txt").read_text().strip() if outcomes[0].path else ""
        raise CheckFailed(
            f"{outcomes[0].message}\n{trace}", f"It must run with recipe {request.recipe} and split {request.split}."
        )
    return list(stored(outcomes)[0])


class Bench:
    """A strategy and its runs; a run that several checks need is made once."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.folder = Path(tempfile.mkdtemp(prefix="clbench-check-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.scenario = self.folder / "contract.py"
        self.scenario.write_text(SCENARIO)
        self.data = self.folder / "data"
        fetch("digits", self.data)
        self._runs: dict[tuple[str, str, str, int], StoredRun] = {}
        self._failed: dict[tuple[str, str, str, int], str] = {}
        self.check = ""
        """Name of the current check."""

        self.errors: dict[str, str] = {}
        """For each error message, the check that met it first."""

    def run(self, recipe: str = "mlp", split: str = "5", out: str = "runs", jobs: int = 1) -> StoredRun:
        """Return the run of this recipe and split, with a fixed head if the strategy refuses a growing one.

        Raises CheckFailed if it fails, and Skipped if it is refused or has failed in an earlier check.
        """
        key = (recipe, split, out, jobs)
        if key in self._failed:
            raise Skipped(f"its run failed; see {self._failed[key]}")
        if key not in self._runs:
            try:
                self._runs[key] = self._run_with_head(recipe, split, out, jobs)
            except CheckFailed:
                self._failed[key] = self.check
                raise
        return self._runs[key]

    def _run_with_head(self, recipe: str, split: str, out: str, jobs: int) -> StoredRun:
        with contextlib.suppress(Skipped):
            return self._execute(recipe, split, out, jobs)
        return self._execute(f"{recipe.removesuffix('-fixed')}-fixed", split, out, jobs)

    def _execute(self, recipe: str, split: str, out: str, jobs: int) -> StoredRun:
        request = Request(
            strategy=[str(self.plugin.path)],
            scenario=[str(self.scenario)],
            recipe=recipe,
            split=split,
            seeds=(0, 1) if jobs > 1 else (0,),
            device="cpu",
            threads=1,
            jobs=jobs,
            out=self.folder / out,
            data=self.data,
        )
        try:
            return quiet_run(request)[0]
        except UsageError as refusal:
            raise Skipped(f"the strategy refuses recipe {recipe}: {refusal.message}") from None
        except CheckFailed as fault:
            message = fault.found.partition("\n")[0]
            first = self.errors.setdefault(message, self.check)
            if first == self.check:
                raise
            raise CheckFailed(f"{message}\nAs in {first}.", fault.fix) from None

    def command(self, run: StoredRun, out: str) -> list[str]:
        """Return the command that repeats a run of the default split in a separate process."""
        command = module_command("clbench", "run", "-s", str(self.plugin.path), "-S", str(self.scenario))
        command += ["--recipe", run.spec.recipe.name, "--threads", "1", "--device", "cpu"]
        return [*command, "--out", str(self.folder / out), "--data", str(self.data)]
