"""Compares strategies over several scenarios: their final accuracies, the mean of these, and their ranks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from clbench.comparison import statistics
from clbench.comparison.rows import Comparison, Reference, Row, chance, final_accuracies
from clbench.comparison.statistics import Aggregate, Estimate
from clbench.results.record_model import to_json


@dataclass(frozen=True)
class AcrossRow:
    """One strategy, in one configuration, in every scenario."""

    strategy: str
    rows: tuple[Row, ...]
    """By scenario."""

    best: tuple[bool, ...]
    """By scenario, whether only the upper reference ends higher, as shown, and the strategy is above chance level."""

    mean: Aggregate | None
    """The interquartile mean of the final accuracy; None for two scenarios."""

    @property
    def finals(self) -> tuple[Estimate, ...]:
        """The final accuracy in each scenario."""
        return tuple(_final(row) for row in self.rows)

    @property
    def reference(self) -> Reference | None:
        """Whether it bounds the comparisons from below or above."""
        return self.rows[0].reference

    @property
    def contends(self) -> bool:
        """Whether it can be called the best of a scenario."""
        return self.rows[0].may_be_best


@dataclass(frozen=True)
class Rank:
    """The rank of a strategy among those that can be the best of a scenario."""

    row: AcrossRow
    mean: float
    """Mean over the scenarios of 1 for the highest final accuracy, 2 for the next, …; equal ones share their ranks."""

    tied: bool
    """Whether it may be as good as the strategy with the lowest mean rank."""


@dataclass(frozen=True)
class Across:
    """Strategies over several scenarios under one recipe."""

    recipe: str
    scenarios: tuple[str, ...]
    rows: tuple[AcrossRow, ...]
    """From the lowest to the highest, by the mean over the scenarios."""

    @property
    def trimmed(self) -> bool:
        """Whether the interquartile mean is not the plain mean."""
        return statistics.trims(len(self.scenarios))

    @property
    def ranks(self) -> tuple[Rank, ...]:
        """Mean ranks, best first, after Demšar 2006; none if a test over so few scenarios could not distinguish any.

        The test is that of ties with the best (`statistics.p_as_good_as_best`), on ranks, with scenarios instead of
        seeds: if strategies are equal, their ranks in a scenario could as well be swapped. It takes 6 scenarios to
        reach 0.05. Demšar's critical difference (Nemenyi) is a bound for large numbers of scenarios.
        """
        from scipy.stats import rankdata

        rows = [row for row in self.rows if row.contends]
        if len(rows) < 2 or statistics.smallest_joint_p(len(self.scenarios)) > statistics.LEVEL:
            return ()
        # Means that differ by rounding alone are equal.
        finals = [[round(final.mean, 9) for final in row.finals] for row in rows]
        of_rows = rankdata([[-final for final in line] for line in finals], axis=0)  # (strategies, scenarios)
        p_values = statistics.p_as_good_as_best((-of_rows).tolist())
        ranks = [
            Rank(row, float(own.mean()), p > statistics.LEVEL)
            for row, own, p in zip(rows, of_rows, p_values, strict=True)
        ]
        return tuple(sorted(ranks, key=lambda rank: (rank.mean, rank.row.strategy)))


def across(comparisons: Iterable[Comparison]) -> list[Across]:
    """Return each recipe's scenarios with the strategies that are in all of them: two or more of either.

    Streams of different kinds are different tasks, so that their accuracies have no common mean. A scenario that is
    compared under several protocols, such as with other splits, is left out: it would count more than once.
    """
    by_recipe: dict[tuple[str, str, str], list[Comparison]] = {}
    for comparison in comparisons:
        scenario = comparison.spec.scenario
        kind = scenario.stream.name if scenario.stream else "class"
        by_recipe.setdefault((comparison.spec.recipe.name, scenario.setting, kind), []).append(comparison)
    return [found for (recipe, _, _), group in sorted(by_recipe.items()) if (found := _across(recipe, group))]


def _across(recipe: str, group: Sequence[Comparison]) -> Across | None:
    times = Counter(comparison.scenario for comparison in group)
    group = [comparison for comparison in group if times[comparison.scenario] == 1]
    scenarios = tuple(comparison.scenario for comparison in group)
    if len(scenarios) < 2:
        return None
    by_label = [{row.strategy: row for row in comparison.rows} for comparison in group]
    shared = {label: [of[label] for of in by_label] for label in set.intersection(*map(set, by_label))}
    shared = {label: rows for label, rows in shared.items() if _comparable(rows)}
    if len(shared) < 2:
        return None
    highest = [_highest(rows) for rows in zip(*shared.values(), strict=True)]
    made = [
        AcrossRow(
            label,
            tuple(rows),
            tuple(row.may_be_best and _shown(row) == most for row, most in zip(rows, highest, strict=True)),
            statistics.interquartile_mean([final_accuracies(row) for row in rows]) if len(rows) > 2 else None,
        )
        for label, rows in shared.items()
    ]
    return Across(recipe, scenarios, tuple(sorted(made, key=_order)))


def _order(row: AcrossRow) -> tuple[float, str]:
    finals = [final.mean for final in row.finals]
    return (row.mean.mean if row.mean else fmean(finals)), row.strategy


def _comparable(rows: Sequence[Row]) -> bool:
    """Whether the rows are of one configuration and all have a final accuracy."""
    same = {json.dumps(to_json(row.runs[0].spec.strategy)) for row in rows}
    return len(same) == 1 and all(row.estimates["final_accuracy"] for row in rows)


def _highest(rows: Sequence[Row]) -> float | None:
    """Return the highest final accuracy that a row of a scenario shows; None if none is above chance level."""
    most = max((_shown(row) for row in rows if row.may_be_best), default=None)
    return most if most is not None and most > 100 * chance(rows[0]) else None


def _shown(row: Row) -> float:
    return round(100 * _final(row).mean, 1)


def _final(row: Row) -> Estimate:
    final = row.estimates["final_accuracy"]
    assert final is not None
    return final
