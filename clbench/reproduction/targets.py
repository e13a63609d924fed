"""Reads the published cells, and finds the stored runs that measure them."""

from __future__ import annotations

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clbench.base.incremental_setting import Setting
from clbench.errors import UsageError
from clbench.reproduction.prescribed import has_prescribed_stream
from clbench.results.stored_run import StoredRun
from clbench.results.strategy_record import literal
from clbench.system.suggestions import did_you_mean

READING: dict[str, Setting] = {
    "class": "class_incremental",
    "task": "task_incremental",
    "domain": "domain_incremental",
}
_FILE = Path(__file__).parent / "targets.csv"
AGREES_WITHIN = 2.0
"""A cell agrees if the published and the measured mean differ by at most this many combined standard errors."""


@dataclass(frozen=True)
class Target:
    """One published number, and which runs measure it."""

    protocol: str
    method: str
    """What the publication calls it."""

    setting: Setting
    strategy: str
    """As `clbench run -s` takes it, with its preset."""

    values: dict[str, str]
    """Hyper-parameters on top of the preset's."""

    scenario: str
    recipe: str
    tune: str
    """How the publication chose hyper-parameters, as a value of `--tune`; empty if not during training."""

    metric: str
    """Its name in evaluation/metrics.py, read in the run's own setting, or with another reading before a slash."""

    mean: float
    """In percent, as is the spread."""

    spread: float | None
    spread_is: str
    """`sd` over the repetitions, or `sem`; `reading` is how exactly the mean could be read off a plot; empty if it is
    not known."""

    n: int
    """Repetitions behind the mean."""

    source: str
    read: str
    """How the number was read: from a `primary` source, from a `transcription`, off a `plot`, or not at all:
    `unverified`, quoted from memory. Such a number is shown, but nothing is judged by it."""

    finding: str
    """If the measurement does not agree: why, or what has been ruled out."""

    def of(self, run: StoredRun) -> float | None:
        """Return the target's metric of a run, as a fraction."""
        reading, slash, metric = self.metric.rpartition("/")
        found: float | None = run.metric(metric, READING[reading]) if slash else run.metric(metric)
        return found

    @property
    def published(self) -> str:
        """The mean with its spread, for people; `sem` or `reading` follows a spread that is no standard deviation."""
        if self.spread is None:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} ±{self.spread:.2f}" + ("" if self.spread_is == "sd" else f" {self.spread_is}")

    @property
    def standard_error(self) -> float | None:
        """Standard error of the published mean, in percent; None if its spread is not known."""
        if self.spread is None:
            return None
        return self.spread / math.sqrt(self.n) if self.spread_is == "sd" else self.spread


@dataclass(frozen=True)
class Cell:
    """A target and what was measured for it."""

    target: Target
    values: tuple[float, ...]
    """The metric of each seed's run, in percent; empty if there is none yet."""

    @property
    def mean(self) -> float | None:
        """Mean over the seeds, in percent."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def z(self) -> float | None:
        """Measured minus published mean, in units of the combined standard error; None if that is not known.

        If the publication's spread is not known, the measured standard error is used alone.
        """
        if self.mean is None or self.deviation is None:
            return None
        error = math.hypot(self.deviation / math.sqrt(len(self.values)), self.target.standard_error or 0.0)
        if error == 0:
            return 0.0 if self.mean == self.target.mean else math.copysign(math.inf, self.mean - self.target.mean)
        return (self.mean - self.target.mean) / error

    @property
    def judged(self) -> bool:
        """Whether the published number has been read in some source, so that a verdict means something."""
        return self.target.read != "unverified"

    @property
    def agrees(self) -> bool | None:
        """Whether the two agree within `AGREES_WITHIN`; None if that cannot be computed or judged."""
        return None if self.z is None or not self.judged else abs(self.z) <= AGREES_WITHIN


def targets(protocol: str | None = None) -> list[Target]:
    """Return every published cell, or those of one protocol. Raises UsageError for one that is not known."""
    with _FILE.open(encoding="utf-8", newline="") as file:
        found = [_target(row) for row in csv.DictReader(file)]
    if protocol is None:
        return found
    known = sorted({target.protocol for target in found})
    if protocol not in known:
        raise UsageError(
            f"no protocol '{protocol}'{did_you_mean(protocol, known)} (known: {', '.join(known)})",
            "To list them: clbench reproduce --list",
        )
    return [target for target in found if target.protocol == protocol]


def _target(row: dict[str, str]) -> Target:
    pairs = [pair.partition("=") for pair in row["values"].split(";") if pair]
    return Target(
        protocol=row["protocol"],
        method=row["method"],
        setting=READING[row["setting"]],
        strategy=row["strategy"],
        values={name: value for name, _, value in pairs},
        scenario=row["scenario"],
        recipe=row["recipe"],
        tune=row["tune"],
        metric=row["metric"],
        mean=float(row["mean"]),
        spread=float(row["spread"]) if row["spread"] else None,
        spread_is=row["spread_is"],
        n=int(row["n"]),
        source=row["source"],
        read=row["read"],
        finding=row["finding"],
    )


def cells(wanted: Iterable[Target], runs: Sequence[StoredRun]) -> list[Cell]:
    """Return each target with what its runs measured, by seed.

    A run measures a target if it has the target's scenario, recipe, setting and strategy, the split and class order
    that the scenario prescribes, and exactly the hyper-parameters of the preset with the target's values. If a seed has
    several such runs, which may differ in device and threads, the first by id counts.
    """
    by_protocol: dict[tuple[str, str, Setting], list[StoredRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.spec.seeds.run, run.run_id)):
        by_protocol[run.spec.scenario.name, run.spec.recipe.name, run.setting].append(run)
    return [
        Cell(target, _measured(target, by_protocol[target.scenario, target.recipe, target.setting]))
        for target in wanted
    ]


def _measured(target: Target, runs: Sequence[StoredRun]) -> tuple[float, ...]:
    """Return the target's metric of each seed, in percent; `runs` are those under its protocol, in order."""
    by_seed: dict[int, float] = {}
    for run in runs:
        if run.spec.seeds.run not in by_seed and _answers(run, target) and (value := target.of(run)) is not None:
            by_seed[run.spec.seeds.run] = 100 * value
    return tuple(by_seed.values())


def _answers(run: StoredRun, target: Target) -> bool:
    """Whether a run under the target's recipe belongs to its protocol and its method."""
    spec = run.spec
    name, _, preset = target.strategy.partition(":")
    if spec.strategy.name != name or preset not in ("", spec.strategy.preset):
        return False
    about = run.facts.strategy
    if not preset and about.preset_values != {each.name: each.default for each in about.hyper_parameters}:
        return False  # a run of some preset, which is another method
    if (spec.tuning.how if spec.tuning else "") != target.tune:
        return False
    given = {name: literal(value) for name, value in target.values.items()}
    expected = about.preset_values | given
    return spec.strategy.config == expected and has_prescribed_stream(spec)
