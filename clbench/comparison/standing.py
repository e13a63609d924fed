"""Relates the rows of a comparison to each other: differences, ties with the best, intransigence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from clbench.comparison import statistics
from clbench.comparison.rows import Row, chance, final_accuracies, lower_reference
from clbench.comparison.statistics import Difference, Estimate, estimate
from clbench.evaluation.counts import Counts
from clbench.evaluation.metrics import intransigence


def with_evidence(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Add to each row its differences in final accuracy and its standing; also return what the tests could find."""
    measured = [row for row in rows if row.estimates["final_accuracy"]]
    lower = lower_reference(measured)
    to_lower = _differences(measured, lower) if lower else {}
    rows = [replace(row, to_lower=to_lower.get(row.strategy)) for row in rows]
    contenders = [row for row in measured if row.may_be_best]
    if len(contenders) < 2:
        return rows, []
    guessing = chance(contenders[-1])
    if fmean(final_accuracies(contenders[-1])) <= guessing:
        return rows, [f"No strategy ends above guessing ({100 * guessing:.1f}), so none is called the best."]
    standings = _standings(contenders)
    rows = [replace(row, **standings.get(row.strategy, {})) for row in rows]
    return rows, _notes_on_ties(contenders[-1], any(row.standing == "tied" for row in rows))


def _standings(contenders: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return how each row relates to the best, the last of the contenders, by label."""
    best = contenders[-1]
    p_values: Sequence[float | None] = [None] * len(contenders)
    if len(best.runs) > 1:
        p_values = statistics.p_as_good_as_best([final_accuracies(row) for row in contenders])
    found: dict[str, dict[str, Any]] = {best.strategy: {"standing": "best"}}
    for row, p in zip(contenders[:-1], p_values[:-1], strict=True):
        difference = statistics.paired(final_accuracies(row), final_accuracies(best))
        tied = difference.mean == 0 if p is None else p > statistics.LEVEL
        found[row.strategy] = {"to_best": difference, "p_best": p, "standing": "tied" if tied else None}
    return found


def _differences(rows: Sequence[Row], to: Row) -> dict[str, Difference]:
    """Return the differences in final accuracy between the other rows and `to`, by label, as one family of tests."""
    others = [row for row in rows if row is not to]
    found = statistics.differences([final_accuracies(row) for row in others], final_accuracies(to))
    return {row.strategy: difference for row, difference in zip(others, found, strict=True)}


def _notes_on_ties(best: Row, some_tied: bool) -> list[str]:
    seeds = len(best.runs)
    if seeds == 1:
        same = [f"≈ marks what ends exactly as high as {best.strategy}."] if some_tied else []
        return ["No difference here says anything about other seeds, since one seed allows no test.", *same]
    least = statistics.smallest_joint_p(seeds)
    if least > statistics.LEVEL:
        enough = next(n for n in range(seeds, 100) if statistics.smallest_joint_p(n) <= statistics.LEVEL)
        return [
            f"≈ marks what may be as good as the best. With {seeds} seeds that is everything: the test's smallest "
            f"possible p is {least:.2g}, whatever the numbers; it takes {enough} seeds to reach {statistics.LEVEL}."
        ]
    here = "" if some_tied else ": here nothing"
    return [
        f"≈ marks what may be as good as the best{here}. While the strategies that remain differ by a joint sign-flip "
        "test of their largest paired t, the lower one of that pair is eliminated; what remains is marked. Of "
        "strategies that are all as good as the best, one loses its mark with a probability of at most "
        f"{statistics.LEVEL}."
    ]


def with_intransigence(rows: Sequence[Row]) -> list[Row]:
    """Add to each row its intransigence, if there is one upper reference to measure it by."""
    upper = [row for row in rows if row.reference == "upper"]
    if len(upper) != 1:
        return list(rows)
    joint = [run.counts() for run in upper[0].runs]
    return [row if row is upper[0] else replace(row, intransigence=_intransigence(row, joint)) for row in rows]


def _intransigence(row: Row, joint: Sequence[Counts]) -> Estimate | None:
    """Chaudhry et al. 2018 give it for each experience; here it is the mean, as for forgetting."""
    of_seeds = []
    for run, theirs in zip(row.runs, joint, strict=True):
        after = intransigence(run.counts(), theirs)
        known = [each for each in after if each is not None]
        of_seeds.append(fmean(known) if len(known) == len(after) else None)
    return estimate(of_seeds)
