"""Prints one metric of a comparison as a table: a value per strategy, or one per strategy and experience."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from clbench.comparison.columns import percent
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.statistics import Estimate, estimate
from clbench.errors import UsageError
from clbench.evaluation import metrics
from clbench.evaluation.forward_transfer import forward_transfer
from clbench.system.suggestions import did_you_mean
from clbench.system.tables import print_table

_TABLES = ("accuracy_matrix", "per_class_accuracy")
"""Metrics that are more than one row per strategy; the report draws them."""

NAMES = [name for name in (*metrics.BY_NAME, *metrics.BY_NAME_WITHIN, forward_transfer.__name__) if name not in _TABLES]


def check_metric(name: str) -> None:
    """Raise UsageError for a name that is not in `NAMES`."""
    if name in _TABLES:
        raise UsageError(
            f"{name} has several values for each strategy and experience",
            "The report shows it, and result.json of each run has it.",
        )
    if name not in NAMES:
        raise UsageError(f"no metric {name!r}{did_you_mean(name, NAMES)}", f"There are: {', '.join(NAMES)}.")


def print_metric(console: Console, comparison: Comparison, name: str) -> None:
    """Print the means of a metric over the seeds with their intervals, or why there are none."""
    values = [_values(row, name) for row in comparison.rows]
    length = max(map(len, values))
    if not any(any(each) for each in values):
        console.print(Text(f"{comparison.title}: {name} is undefined here.{_reason(comparison, name)}"))
        return
    names = [name.replace("_", " ")] if length == 1 else [str(i + 1) for i in range(length)]
    low = -1.0 if _signed(name) else 0.0
    rows = [
        [row.title, *(percent(each, low) for each in of_row), str(len(row.seeds))]
        for row, of_row in zip(comparison.rows, values, strict=True)
    ]
    print_table(console, comparison.title, ["strategy", *names, "n"], rows, numbers=range(1, length + 2))
    each = "" if length == 1 else f" {name.replace('_', ' ').capitalize()} in each experience."
    console.print(Text(f"Percent; means with 95 % t-intervals over the seeds.{each}"))


def metric_for_json(comparison: Comparison, name: str) -> list[dict[str, Any]]:
    """Return a row per strategy with the metric's estimates, as shares, not percent."""
    return [
        {
            "strategy": row.strategy,
            "seeds": list(row.seeds),
            name: [asdict(each) if each else None for each in _values(row, name)],
        }
        for row in comparison.rows
    ]


def _values(row: Row, name: str) -> list[Estimate | None]:
    """Return the estimate over the seeds, or those of all experiences."""
    of_seeds = [run.metric(name) for run in row.runs]
    if all(isinstance(each, list) for each in of_seeds):
        return [estimate(values) for values in zip(*of_seeds, strict=True)]
    return [estimate([None if isinstance(each, list) else each for each in of_seeds])]


def _reason(comparison: Comparison, name: str) -> str:
    if name in metrics.BY_NAME_WITHIN and not any(run.facts.ends for row in comparison.rows for run in row.runs):
        return (
            " Its runs were evaluated only at the ends of experiences; to do so within: --set stream.evaluate_every=N"
        )
    if name == forward_transfer.__name__:
        return " It is defined for streams of domains that share outputs."
    return ""


def _signed(name: str) -> bool:
    return name.startswith(("forgetting", "backward", "forward", "stability"))
