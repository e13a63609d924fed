"""Groups runs into fair comparisons: one protocol, the same seeds, a row per strategy with its evidence."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from clbench.comparison.cautions import notes_on, warnings_on
from clbench.comparison.columns import COLUMNS, summary
from clbench.comparison.protocol import distinction, protocol
from clbench.comparison.row_labels import labels_of, method
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.standing import with_evidence, with_intransigence
from clbench.comparison.statistics import estimate
from clbench.results.run_spec import RunSpec
from clbench.results.stored_run import StoredRun


def compare(runs: Iterable[StoredRun]) -> list[Comparison]:
    """Group the runs by everything that two strategies must share to be compared, and summarise each group."""
    groups: dict[str, list[StoredRun]] = defaultdict(list)
    protocol_of = _by_family(protocol)
    for run in runs:
        groups[protocol_of(run)].append(run)
    return _told_apart([_comparison(group) for _, group in sorted(groups.items())])


def _by_family(describe: Callable[[RunSpec], str]) -> Callable[[StoredRun], str]:
    """Return a function that applies `describe` to a run's spec, once for all runs that differ only in their seeds."""
    known: dict[bytes, str] = {}

    def described(run: StoredRun) -> str:
        family = run.facts.family
        if family not in known:
            known[family] = describe(run.spec)
        return known[family]

    return described


def _told_apart(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Add to comparisons with the same title how they differ."""
    same: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        same[comparison.title].append(comparison)
    return [
        replace(comparison, distinction=distinction(comparison.spec, [other.spec for other in same[comparison.title]]))
        for comparison in comparisons
    ]


def _comparison(runs: Sequence[StoredRun]) -> Comparison:
    made: dict[str, dict[int, StoredRun]] = defaultdict(dict)
    method_of = _by_family(method)
    for run in runs:
        made[method_of(run)][run.spec.seeds.run] = run
    methods = dict(sorted(made.items()))
    labels = labels_of([json.loads(key) for key in methods])
    shared = sorted(set.intersection(*(set(by_seed) for by_seed in methods.values())))
    rows = [
        _row(label, [by_seed[seed] for seed in shared or sorted(by_seed)])
        for label, by_seed in zip(labels, methods.values(), strict=True)
    ]
    rows.sort(key=_order)
    warnings = warnings_on(rows, shared, dict(zip(labels, methods.values(), strict=True)))
    if shared:
        rows = with_intransigence(rows)
    notes = notes_on(rows)
    if shared:
        rows, said = with_evidence(rows)
        notes += said
    return Comparison(rows, tuple(shared), warnings, notes)


def _row(label: str, runs: Sequence[StoredRun]) -> Row:
    summaries = [summary(run) for run in runs]
    estimates = {column: estimate([values[column] for values in summaries]) for column in COLUMNS}
    return Row(label, tuple(runs), estimates, runs[0].facts.strategy.reference)


def _order(row: Row) -> tuple[float, str]:
    final = row.estimates["final_accuracy"]
    return (final.mean if final else math.inf), row.strategy
