"""Profiles one run, which is not kept, from the seconds by phase that every run stores."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.data.datasets import data_folder
from clbench.errors import ClbenchError, UsageError
from clbench.results.run_costs import RunCosts
from clbench.results.run_result import RunResult
from clbench.results.store import ResultsFolder
from clbench.runs.planned_runs import plan
from clbench.runs.request import Request
from clbench.system import gc_freeze
from clbench.system.signals import Interruption
from clbench.trackers.progress import ProgressDisplay
from clbench.training.costs import PHASES

if TYPE_CHECKING:
    from rich.console import Console

PARTS = {
    "start-up": "importing torch, opening the data, initializing the network",
    **PHASES,
    "publishing": "writing the result",
}
_STEP_PARTS = ("data", "forward", "backward", "optimizer", "strategy", "replayed")

HEADINGS = ("part", "seconds", "share", "ms a step", "what")


@dataclass(frozen=True)
class Profile:
    """The time of one run."""

    run: str
    device: str
    threads: int
    seconds: dict[str, float]
    """By part, as in PARTS; they add up to the total."""

    gradient_steps: int
    samples_seen: int
    training_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return vars(self)

    def rows(self) -> list[Sequence[str]]:
        """Return a row per part that took a millisecond or more, and the whole."""
        whole = sum(self.seconds.values())
        rows = []
        for part, seconds in self.seconds.items():
            if seconds >= 0.001:
                step = (
                    f"{1000 * seconds / self.gradient_steps:.2f}" if part in _STEP_PARTS and self.gradient_steps else ""
                )
                rows.append((part, f"{seconds:.2f}", f"{100 * seconds / whole:.1f} %", step, PARTS[part]))
        return [*rows, ("all", f"{whole:.2f}", "100.0 %", "", "")]

    def summary(self) -> str:
        """Return steps, images and speed in a sentence."""
        speed = f", {self.samples_seen / self.training_seconds:,.0f} images/s" if self.training_seconds else ""
        return f"{self.gradient_steps:,} gradient steps, {self.samples_seen:,} images seen in training{speed}"


def profile(request: Request, console: Console) -> Profile:
    """Make the one requested run in a temporary folder, with progress on `console`; return its profile.

    On a GPU the run waits for the device at every change of phase, and does not capture its steps, so that the time can
    be attributed; this slows it down. Raises UsageError for more than one run, ClbenchError for one that fails,
    and what `plan` raises.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, Interruption() as interruption, ProgressDisplay(console) as progress:
        planned = plan(replace(request, out=Path(folder)), progress)
        if len(planned) != 1:
            raise UsageError(
                f"clbench profile takes a single run (got {len(planned)})", "Name one strategy and one scenario."
            )
        progress.expect(1)
        from clbench.runs.context import RunContext
        from clbench.runs.run import execute

        gc_freeze.freeze_imports()
        results = ResultsFolder(Path(folder))
        around = RunContext(results, data_folder(request.data), interruption, progress, share=False, exact_phases=True)
        before = time.perf_counter() - began
        outcome = execute(planned[0].spec, planned[0].plugin, around, network=planned[0].network)
        assert outcome is not None
        whole = time.perf_counter() - began
        if outcome.failed:
            raise ClbenchError(f"{outcome.run}: {outcome.message}", "`clbench run` keeps the traceback.")
        result = RunResult.model_validate_json((outcome.path / "result.json").read_bytes())
        costs = RunCosts.model_validate_json((outcome.path / "costs.json").read_bytes())
    seconds = {"start-up": before + costs.start_up_seconds}
    seconds |= {phase: sum(each.phases[phase] for each in costs.experiences if each.phases) for phase in PHASES}
    seconds["publishing"] = max(0.0, whole - sum(seconds.values()))
    return Profile(
        planned[0].name,
        planned[0].spec.device,
        planned[0].spec.threads,
        seconds,
        result.totals.gradient_steps,
        result.totals.samples_seen,
        costs.totals.training_seconds,
    )
