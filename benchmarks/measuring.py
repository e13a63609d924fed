"""Tools shared by the benchmarks: alternating pairs, runs of clbench in this process and as a command, the table."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from clbench.base.events import Event, ExperienceFinished
from clbench.data.datasets import describe
from clbench.results.run_costs import RunCosts
from clbench.results.run_result import RunResult
from clbench.results.store import ResultsFolder
from clbench.runs.context import RunContext
from clbench.runs.planned_runs import Planned, plan
from clbench.runs.request import Request
from clbench.runs.run import execute
from clbench.streams.stream import open_stream
from clbench.system.signals import Interruption

SEED = 0


@dataclass(frozen=True)
class Bench:
    """The options that every group receives."""

    repeats: int
    threads: int
    data: Path


@dataclass
class Row:
    """One comparison: `ratio` is the median of `ratios` and should be at most, or at least, `target`."""

    what: str
    against: str
    target: float
    better: Literal["lower", "higher"]
    ratios: list[float]
    ours: float
    """Median of the measurements of clbench, in `unit`."""

    theirs: float
    """Median of the measurements that it is compared with, in `unit`."""

    unit: str = "s"
    ratio: float = field(init=False)
    repeats: int = field(init=False)

    def __post_init__(self) -> None:
        self.ratio, self.repeats = statistics.median(self.ratios), len(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.ratio <= self.target if self.better == "lower" else self.ratio >= self.target


class Unavailable(Exception):
    """A group cannot run here; the message says why."""


def need(bench: Bench, dataset: str) -> None:
    """Raise Unavailable if the dataset is not prepared: a benchmark does not download."""
    if describe(dataset, bench.data) is None:
        raise Unavailable(f"{dataset} is not in {bench.data}; bring it in with `clbench data fetch {dataset}`")


# -- pairs ------------------------------------------------------------------------------------------------------------


def ours_over_theirs(what: str, against: str, target: float, pairs: Sequence[tuple[float, float]]) -> Row:
    """Return the row for pairs (ours, theirs) of seconds, where ours should be lower."""
    ours, theirs = zip(*pairs, strict=True)
    ratios = [own / other for own, other in pairs]
    return Row(what, against, target, "lower", ratios, statistics.median(ours), statistics.median(theirs))


def speed(what: str, against: str, target: float, pairs: Sequence[tuple[float, float]]) -> Row:
    """Return the row for pairs (ours, theirs) of seconds that states how many times as fast ours is."""
    ours, theirs = zip(*pairs, strict=True)
    ratios = [other / own for own, other in pairs]
    return Row(what, against, target, "higher", ratios, statistics.median(ours), statistics.median(theirs))


def alternating(
    repeats: int, ours: Callable[[], Any], theirs: Callable[[], Any], warm_up: bool = False
) -> list[tuple[Any, Any]]:
    """Return `repeats` pairs of results of both functions, with the order of the calls alternating from pair to pair.

    With `warm_up`, an additional first pair is discarded: kernels, pages and allocators are then warm for both.
    """
    pairs = [pair(bool(repeat % 2), ours, theirs) for repeat in range(repeats + warm_up)]
    return pairs[warm_up:]


def pair(theirs_first: bool, ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[Any, Any]:
    """Return the results of ours and theirs, called in the requested order."""
    if theirs_first:
        other = theirs()
        return ours(), other
    return ours(), theirs()


# -- clbench ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A finished run of clbench in this process."""

    result: RunResult
    costs: RunCosts
    seconds: float
    """From opening the data to the published files."""

    boundaries: list[float]
    """When each experience was reported as finished, by the clock of this process."""

    @property
    def learning_seconds(self) -> float:
        """Time of all experiences without evaluation: data, recording, growing the head, training, audit."""
        return self.costs.totals.seconds - self.costs.totals.evaluation_seconds


def plan_run(
    bench: Bench, strategy: str, scenario: str, epochs: int | None = None, stream: str | None = None
) -> Planned:
    """Return one run on the CPU, planned in the same way as by the command."""
    request = Request(
        [strategy],
        [scenario],
        seeds=(SEED,),
        stream=stream,
        epochs=epochs,
        device="cpu",
        threads=bench.threads,
        data=bench.data,
    )
    (planned,) = plan(request, lambda event: None)
    return planned


def run_clbench(bench: Bench, planned: Planned) -> Run:
    """Execute a run as the command would, in a separate results folder, so that nothing is skipped or shared."""
    boundaries: list[float] = []

    def notify(event: Event) -> None:
        if isinstance(event, ExperienceFinished):
            boundaries.append(time.perf_counter())

    open_stream.cache_clear()  # each run of a process opens its data, as the first one does
    with tempfile.TemporaryDirectory() as folder:
        around = RunContext(ResultsFolder(Path(folder)), bench.data, Interruption(), notify, share=False)
        began = time.perf_counter()
        outcome = execute(planned.spec, planned.plugin, around)
        seconds = time.perf_counter() - began
        if outcome is None or outcome.failed:
            raise RuntimeError(f"{planned.name} did not finish: {outcome}")
        result = RunResult.model_validate_json((outcome.path / "result.json").read_bytes())
        costs = RunCosts.model_validate_json((outcome.path / "costs.json").read_bytes())
    return Run(result, costs, seconds, boundaries)


def command(*arguments: str) -> list[str]:
    """Return the command line that runs `clbench` with this interpreter."""
    return [sys.executable, "-m", "clbench", *arguments]


def wall_seconds(arguments: Sequence[str], folder: Path | None = None) -> float:
    """Return how long a process takes from its start to its end. Raises CalledProcessError if it fails."""
    began = time.perf_counter()
    subprocess.run(arguments, cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - began


# -- the table --------------------------------------------------------------------------------------------------------


def open_console() -> Console:
    """Return a console on standard output, wide enough for whole lines if it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print the table: each ratio with its target and its range over the repeats."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("what", "against"):
        table.add_column(heading)
    for heading in ("ours", "theirs", "ratio", "range", "n", "target", ""):
        table.add_column(heading, justify="right")
    for row in rows:
        sign = "≤" if row.better == "lower" else "≥"
        span = f"{min(row.ratios):.2f}–{max(row.ratios):.2f}" if row.repeats > 1 else ""
        measured = (f"{row.ours:.4g} {row.unit}", f"{row.theirs:.4g} {row.unit}", f"{row.ratio:.2f}", span)
        verdict = "met" if row.met else "[red]missed"
        table.add_row(row.what, row.against, *measured, str(row.repeats), f"{sign} {row.target:g}", verdict)
    console.print(table)
