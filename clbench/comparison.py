"""Runs grouped into fair comparisons: one protocol, the same seeds, a row per strategy with mean and interval."""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from clbench.results import StoredRun
from clbench.splits import describe_split


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % t-interval."""

    mean: float
    half_width: float | None
    """None with one seed, where no interval is known."""


@dataclass(frozen=True)
class Row:
    """One strategy, in one configuration, over the seeds of the comparison."""

    strategy: str
    seeds: tuple[int, ...]
    estimates: dict[str, Estimate | None]
    """By column; None where a value is undefined, as the old-class accuracy of a single experience."""


@dataclass(frozen=True)
class Comparison:
    """Runs that differ in nothing but strategy and seed."""

    title: str
    rows: list[Row]
    notes: list[str]


COLUMNS = {
    "final_accuracy": "final accuracy",
    "average_incremental_accuracy": "average incremental",
    "old_accuracy": "old classes",
    "new_accuracy": "new classes",
    "forgetting": "forgetting",
    "task_incremental_accuracy": "task-incremental final",
    "seconds": "seconds",
    "samples_seen": "samples seen",
    "stored_bytes": "stored bytes",
}
SHARES = tuple(COLUMNS)[:6]
"""Columns that are shares between 0 and 1 (forgetting: -1 to 1)."""


def summary(run: StoredRun) -> dict[str, float | None]:
    """Return a run's value in each column; old and new classes after the last experience."""
    totals = run.result["totals"]
    return {
        "final_accuracy": run.metric("final_accuracy"),
        "average_incremental_accuracy": run.metric("average_incremental_accuracy"),
        "old_accuracy": run.metric("old_accuracy")[-1],
        "new_accuracy": run.metric("new_accuracy")[-1],
        "forgetting": run.metric("forgetting"),
        "task_incremental_accuracy": run.metric("final_accuracy", "task_incremental"),
        "seconds": totals["seconds"],
        "samples_seen": totals["samples_seen"],
        "stored_bytes": totals["stored_bytes"],
    }


def compare(runs: Iterable[StoredRun]) -> list[Comparison]:
    """Group the runs by everything that two strategies must share to be compared, and summarise each group."""
    groups: dict[str, list[StoredRun]] = defaultdict(list)
    for run in runs:
        groups[_protocol(run.spec)].append(run)
    return [_comparison(group) for _, group in sorted(groups.items())]


def _protocol(spec: dict[str, Any]) -> str:
    scenario = dict(spec["scenario"])
    if scenario["class_order_from"] == "seed":
        del scenario["class_order"]
    shared = [scenario["name"], scenario, spec["recipe"], spec["device"], spec["threads"], spec["engine"]]
    return json.dumps(shared, sort_keys=True)


def _comparison(runs: Sequence[StoredRun]) -> Comparison:
    methods: dict[str, dict[int, StoredRun]] = defaultdict(dict)
    for run in runs:
        methods[json.dumps(run.spec["strategy"], sort_keys=True)][run.spec["seeds"]["run"]] = run
    labels = _labels([json.loads(key) for key in methods])
    shared = sorted(set.intersection(*(set(by_seed) for by_seed in methods.values())))
    notes = _seed_notes(shared, dict(zip(labels, methods.values(), strict=True)))
    rows = [
        _row(label, [by_seed[seed] for seed in shared or sorted(by_seed)])
        for label, by_seed in zip(labels, methods.values(), strict=True)
    ]
    budgets = {row.strategy: estimate.mean for row in rows if (estimate := row.estimates["samples_seen"])}
    if len(set(budgets.values())) > 1:
        least = min(filter(None, budgets.values()))
        more = ", ".join(f"{name} {budget / least:.1f}×" for name, budget in budgets.items() if budget > least)
        notes.append(f"Unequal budgets: samples seen, beside the smallest: {more}.")
    notes.append(_reference_lines(runs[0]))
    first = runs[0].spec
    recipe = f"recipe {first['recipe']['name']}, {first['device']}, {first['threads']} threads"
    split = describe_split(first["scenario"]["classes_per_experience"])
    title = f"{first['scenario']['name']}, {split} classes, class-incremental, {recipe}"
    return Comparison(title, sorted(rows, key=_order), notes)


def _reference_lines(run: StoredRun) -> str:
    chance = {setting: 100 * values[-1] for setting, values in run.result["chance"].items()}
    total = run.counts("class_incremental").total
    return (
        f"For comparison: guessing gives {chance['class_incremental']:.1f} class-incrementally and "
        f"{chance['task_incremental']:.1f} task-incrementally; knowing only the last experience gives "
        f"{100 * total[-1] / sum(total):.1f} class-incrementally."
    )


def _order(row: Row) -> tuple[float, str]:
    final = row.estimates["final_accuracy"]
    return (final.mean if final else math.inf), row.strategy


def _labels(strategies: Sequence[dict[str, Any]]) -> list[str]:
    """Return a name for each, with the hyper-parameters in which those of one name differ."""
    labels = []
    for strategy in strategies:
        same = [other for other in strategies if other["name"] == strategy["name"]]
        differing = [
            f"{key}={value}"
            for key, value in strategy["config"].items()
            if any(other["config"].get(key) != value for other in same)
        ]
        if len({other["sha256"] for other in same}) > 1:
            differing.append(f"file {strategy['sha256'][:8]}")
        labels.append(" ".join([strategy["name"], *differing]))
    return labels


def _seed_notes(shared: Sequence[int], methods: dict[str, dict[int, StoredRun]]) -> list[str]:
    if not shared:
        return ["The strategies have no seed in common: their rows cannot be compared with each other."]
    left_out = {label: sorted(set(by_seed) - set(shared)) for label, by_seed in methods.items()}
    return [
        f"Seeds {', '.join(map(str, seeds))} of {label} are left out: not every strategy has them."
        for label, seeds in left_out.items()
        if seeds
    ]


def _row(label: str, runs: Sequence[StoredRun]) -> Row:
    summaries = [summary(run) for run in runs]
    estimates = {column: estimate([values[column] for values in summaries]) for column in COLUMNS}
    return Row(label, tuple(run.spec["seeds"]["run"] for run in runs), estimates)


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """mean ± t(0.975, n-1) · s / √n over seeds; None where a value is undefined."""
    defined = [value for value in values if value is not None]
    if len(defined) < len(values) or not defined:
        return None
    mean = statistics.fmean(defined)
    if len(defined) == 1:
        return Estimate(mean, None)
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(defined) - 1, 0.975))
    return Estimate(mean, quantile * statistics.stdev(defined) / math.sqrt(len(defined)))
