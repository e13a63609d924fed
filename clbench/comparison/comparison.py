"""Runs grouped into fair comparisons: one protocol, the same seeds, a row per strategy with its evidence."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from clbench.comparison import statistics
from clbench.comparison.columns import COLUMNS, SHARES, lowest, summary, uninformative
from clbench.comparison.how_tuned import how_tuned
from clbench.comparison.protocol import distinction, protocol
from clbench.comparison.statistics import Difference, Estimate, estimate
from clbench.evaluation.metrics import intransigence
from clbench.results.record import to_json
from clbench.results.run_spec import RunSpec
from clbench.results.stored_runs import StoredRun
from clbench.streams.splits import describe_split
from clbench.system.output import legible
from clbench.system.tables import listed

Reference = Literal["lower", "upper"]

MANY_TIMES = 5
"""A test class so many times as large as another is warned of."""


@dataclass(frozen=True)
class Row:
    """One strategy, in one configuration, over the seeds of the comparison."""

    strategy: str
    """Its name and preset, with the hyper-parameters in which several rows of one name differ."""

    runs: tuple[StoredRun, ...]
    """A run per seed, in the order of the seeds; in every row of a comparison the same seeds."""

    estimates: dict[str, Estimate | None]
    """By column; None where a value is undefined, as the old-class accuracy of a single experience."""

    reference: Reference | None = None
    """Whether it bounds the comparison from below or above, as its file says, and is no remedy itself."""

    intransigence: Estimate | None = None
    """Mean over the experiences of what the upper reference of equal seed has learned better of each, just after it.

    None for that reference; where there is none or several; and if a run was not evaluated after every experience.
    """

    to_lower: Difference | None = None
    """Its final accuracy less the lower reference's, with equal seeds; None for that reference, and where none is."""

    to_best: Estimate | None = None
    """The same to the best row, without a test of its own: it was chosen as the best by these numbers."""

    p_best: float | None = None
    """The p of its being as good as the best (`statistics.p_as_good_as_best`); None with one seed."""

    standing: Literal["best", "tied"] | None = None
    """Whether it has the highest mean final accuracy of all rows but the upper reference, or may be as good as it.

    None for all if nothing is above guessing, and for a row whose cross-entropy was constant.

    With one seed, which tells nothing, tied is what equals the best.
    """

    @property
    def name(self) -> str:
        """The strategy's name alone."""
        return self.runs[0].spec.strategy.name

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(run.spec.seeds.run for run in self.runs)

    @property
    def tuned(self) -> str:
        """How its hyper-parameters came about: `default`, `preset`, `by hand`, `chf` or `grid (n trials)`."""
        return how_tuned(self.runs[0])

    @property
    def audit(self) -> str:
        """What the audit (see audit/audit.py) says of its runs: `pass`, or the worst it found."""
        verdicts = {run.result.audit.verdict for run in self.runs}
        return max(verdicts, key=lambda verdict: ("pass", "warn", "violation").index(verdict.partition("(")[0]))

    @property
    def constant_in(self) -> tuple[int, ...]:
        """The experiences in which its cross-entropy ranged over a single class, so that it learned nothing by it."""
        return tuple(each.index for each in self.runs[0].result.experiences if each.constant_cross_entropy)

    @property
    def is_remedy(self) -> bool:
        """Whether it can be called the best: it is no reference, and its loss says something in every experience."""
        return self.reference is None and not self.constant_in

    @property
    def title(self) -> str:
        """The strategy with what it is in the comparison: `naive (lower reference)`."""
        return f"{self.strategy} ({self.reference} reference)" if self.reference else self.strategy


@dataclass(frozen=True)
class Comparison:
    """Runs that differ in nothing but strategy and seed."""

    rows: list[Row]
    """From the lowest to the highest final accuracy."""

    seeds: tuple[int, ...]
    """Those of every row; empty where the strategies have no seed in common."""

    warnings: list[str]
    """What a reader must know before trusting the table: seeds left out, unequal budgets."""

    notes: list[str]
    """How to read it: reference values, and what the tests can and cannot say."""

    distinction: str = ""
    """What tells it from another comparison whose protocol would read the same, as the class order."""

    @property
    def testable(self) -> bool:
        """Whether a test over so many seeds could tell some strategy from the best, if it were much worse."""
        return statistics.smallest_joint_p(len(self.seeds)) <= statistics.LEVEL

    @property
    def imbalance(self) -> float:
        """How many times as many test samples the largest class has as the smallest that has any."""
        least, most = _class_sizes(self.rows[0].runs[0])
        return most / least

    @property
    def spec(self) -> RunSpec:
        """The spec of one of the runs, for what they have in common."""
        return self.rows[0].runs[0].spec

    @property
    def scenario(self) -> str:
        """The scenario's name."""
        return legible(self.spec.scenario.name)

    @property
    def title(self) -> str:
        """The scenario with its protocol, in a line."""
        spec = self.spec
        split = describe_split(spec.scenario.classes_per_experience)
        threads = f"{spec.threads} thread{'s' if spec.threads != 1 else ''}"
        recipe = legible(f"recipe {spec.recipe.name}, {spec.device}, {threads}")
        title = f"{self.scenario}, {split} classes, {spec.scenario.setting.replace('_', '-')}, {recipe}"
        return f"{title}, {self.distinction}" if self.distinction else title


def compare(runs: Iterable[StoredRun]) -> list[Comparison]:
    """Group the runs by everything that two strategies must share to be compared, and summarise each group."""
    groups: dict[str, list[StoredRun]] = defaultdict(list)
    for run in runs:
        groups[protocol(run.spec)].append(run)
    return _told_apart([_comparison(group) for _, group in sorted(groups.items())])


def _told_apart(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Add to comparisons of one title in what they differ."""
    same: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        same[comparison.title].append(comparison)
    return [
        replace(comparison, distinction=distinction(comparison.spec, [other.spec for other in same[comparison.title]]))
        for comparison in comparisons
    ]


def _comparison(runs: Sequence[StoredRun]) -> Comparison:
    made: dict[str, dict[int, StoredRun]] = defaultdict(dict)
    for run in runs:
        made[_method(run.spec)][run.spec.seeds.run] = run
    methods = dict(sorted(made.items()))
    labels = _labels([json.loads(key) for key in methods])
    shared = sorted(set.intersection(*(set(by_seed) for by_seed in methods.values())))
    rows = [
        _row(label, [by_seed[seed] for seed in shared or sorted(by_seed)])
        for label, by_seed in zip(labels, methods.values(), strict=True)
    ]
    rows.sort(key=_order)
    warnings = [*_seed_warnings(shared, dict(zip(labels, methods.values(), strict=True))), *_budget_warnings(rows)]
    warnings += [
        *_exemplar_warnings(rows),
        *_loop_warnings(rows),
        *_imbalance_warnings(rows[0].runs[0]),
        *_constant_loss_warnings(rows),
    ]
    if shared:
        rows = _with_intransigence(rows)
    notes = [_reference_lines(rows[0].runs[0]), *_interval_notes(rows)]
    if shared:
        rows, said = _with_evidence(rows)
        notes += said
    return Comparison(rows, tuple(shared), warnings, notes)


def _method(spec: RunSpec) -> str:
    """Return what runs of one row share: the strategy with its preset and values, and how those were chosen."""
    tuning = {key: value for key, value in to_json(spec.tuning or {}).items() if key in ("how", "start", "trials")}
    return json.dumps({**to_json(spec.strategy), "tuning": tuning}, sort_keys=True)


def _tuned(tuning: dict[str, Any]) -> str:
    return f"by grid, {tuning['trials']} trials" if "trials" in tuning else f"by chf from {tuning.get('start')}"


def _row(label: str, runs: Sequence[StoredRun]) -> Row:
    summaries = [summary(run) for run in runs]
    estimates = {column: estimate([values[column] for values in summaries]) for column in COLUMNS}
    return Row(label, tuple(runs), estimates, runs[0].result.strategy.reference)


def _order(row: Row) -> tuple[float, str]:
    final = row.estimates["final_accuracy"]
    return (final.mean if final else math.inf), row.strategy


def _labels(strategies: Sequence[dict[str, Any]]) -> list[str]:
    """Return a name for each, with its preset, and the hyper-parameters in which those of one name differ."""
    labels = []
    for strategy in strategies:
        same = [other for other in strategies if _named(other) == _named(strategy)]
        differing = [
            f"{key}={value}"
            for key, value in strategy["config"].items()
            if any(other["config"].get(key) != value for other in same)
        ]
        if len({other["sha256"] for other in same}) > 1:
            differing.append(f"file {strategy['sha256'][:8]}")
        if len({json.dumps(other["tuning"]) for other in same}) > 1:
            differing.append(_tuned(strategy["tuning"]) if strategy["tuning"] else "untuned")
        labels.append(legible(" ".join([":".join(filter(None, _named(strategy))), *differing])))
    # A name may be made to look like another with its hyper-parameters.
    return [
        label if labels.count(label) == 1 else f"{label} ({labels[: position + 1].count(label)})"
        for position, label in enumerate(labels)
    ]


def _named(strategy: dict[str, Any]) -> tuple[str, str | None]:
    return strategy["name"], strategy.get("preset")


def _seed_warnings(shared: Sequence[int], methods: dict[str, dict[int, StoredRun]]) -> list[str]:
    if not shared:
        return ["The strategies have no seed in common: their rows cannot be compared with each other."]
    left_out = {label: sorted(set(by_seed) - set(shared)) for label, by_seed in methods.items()}
    return [
        f"Seeds {', '.join(map(str, seeds))} of {label} are left out: not every strategy has them."
        for label, seeds in sorted(left_out.items())
        if seeds
    ]


def _exemplar_warnings(rows: Sequence[Row]) -> list[str]:
    """Say how many exemplars the strategies may keep, if some may keep exemplars and others more, fewer or none."""
    names: dict[int, list[str]] = defaultdict(list)
    with_all_data: list[str] = []
    for row in rows:
        result = row.runs[0].result
        again = any(experience.past_data_bytes for experience in result.experiences)
        (with_all_data if again else names[result.audit.memory]).append(row.strategy)
    budgets = sorted(filter(None, names))
    if not budgets or len(names) == 1:
        return []
    first, *more = budgets
    parts = [f"{listed(names[first])} keep{'s' if len(names[first]) == 1 else ''} {first:,} exemplars"]
    parts += [f"{listed(names[budget])} {budget:,}" for budget in more]
    parts += [f"{listed(with_all_data)} all data"] if with_all_data else []
    parts += ["the others none" if len(names[0]) > 1 else f"{names[0][0]} none"] if names[0] else []
    return [f"Unequal exemplar budgets: {'; '.join(parts)}."]


def _budget_warnings(rows: Sequence[Row]) -> list[str]:
    budgets = {row.strategy: made.mean for row in rows if (made := row.estimates["samples_seen"])}
    if len(set(budgets.values())) <= 1:
        return []
    least = min(filter(None, budgets.values()))
    if len(budgets) > 8:
        most = max(budgets, key=budgets.__getitem__)
        return [
            f"Unequal budgets: {most} has seen {budgets[most] / least:.1f}× the samples of the least; see the column."
        ]
    more = ", ".join(f"{name} {budget / least:.1f}×" for name, budget in budgets.items() if budget > least)
    return [f"Unequal budgets: samples seen, as multiples of the least: {more}."]


def _loop_warnings(rows: Sequence[Row]) -> list[str]:
    """Say which rows were trained by another package's loop, since their seconds are mostly that loop's."""
    packages: dict[str, list[str]] = {}
    for row in rows:
        if package := row.runs[0].spec.strategy.package:
            packages.setdefault(package, []).append(row.strategy)
    return [
        f"Trained by the loop of {package}: {', '.join(names)}. Do not compare their seconds with other rows."
        for package, names in sorted(packages.items())
    ]


def _imbalance_warnings(run: StoredRun) -> list[str]:
    least, most = _class_sizes(run)
    if most < MANY_TIMES * least:
        return []
    return [
        f"Unequal classes: the largest has {most:,} test samples, the smallest {least:,}. Accuracies count samples, so "
        "large classes dominate them; macro accuracy is the mean over classes."
    ]


def _constant_loss_warnings(rows: Sequence[Row]) -> list[str]:
    found: dict[tuple[int, ...], list[str]] = {}
    for row in rows:
        if row.constant_in:
            found.setdefault(row.constant_in, []).append(row.strategy)
    return [
        f"The cross-entropy of {listed(names)} ranges over the new classes alone. Where there is one ("
        f"experience{'s' if len(where) > 1 else ''} {listed([str(index) for index in where[:8]])}"
        f"{', …' if len(where) > 8 else ''}), it is 0 always, and does not learn that class. Not called the best."
        for where, names in found.items()
    ]


def _class_sizes(run: StoredRun) -> tuple[int, int]:
    """Return how many test samples the smallest class has, of those that have any, and how many the largest."""
    totals = [total for total in run.counts().class_total if total]
    return min(totals), max(totals)


def _reference_lines(run: StoredRun) -> str:
    chance = {setting: 100 * values[-1] for setting, values in run.result.chance.items()}
    if run.setting != "class_incremental":
        return f"For comparison: guessing gives {chance[run.setting]:.1f}."
    total = run.counts().total
    return (
        f"For comparison: guessing gives {chance['class_incremental']:.1f} class-incrementally and "
        f"{chance['task_incremental']:.1f} task-incrementally; knowing only the last experience gives "
        f"{100 * total[-1] / sum(total):.1f} class-incrementally."
    )


def _interval_notes(rows: Sequence[Row]) -> list[str]:
    shares = [(column, row.estimates[column]) for row in rows for column in SHARES]
    shares += [("intransigence", row.intransigence) for row in rows]
    if not any(made and uninformative(made, lowest(column)) for column, made in shares):
        return []
    return ["±? is an interval that covers every possible value: so few seeds say nothing about that mean."]


def _with_intransigence(rows: Sequence[Row]) -> list[Row]:
    """Add to each row its intransigence, if there is one upper reference to measure it by."""
    upper = [row for row in rows if row.reference == "upper"]
    if len(upper) != 1:
        return list(rows)
    return [row if row is upper[0] else replace(row, intransigence=_intransigence(row, upper[0])) for row in rows]


def _intransigence(row: Row, upper: Row) -> Estimate | None:
    """Chaudhry et al. 2018 give it for each experience; here it is the mean, as that of forgetting is."""
    of_seeds = []
    for ours, joint in zip(row.runs, upper.runs, strict=True):
        after = intransigence(ours.counts(), joint.counts())
        known = [each for each in after if each is not None]
        of_seeds.append(fmean(known) if len(known) == len(after) else None)
    return estimate(of_seeds)


def lower_reference(rows: Sequence[Row]) -> Row | None:
    """Return the row that bounds the others from below; of several the one that nothing tuned."""
    found = [row for row in rows if row.reference == "lower"]
    return min(found, key=lambda row: (row.tuned != "default", row.strategy), default=None)


def _with_evidence(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Add to each row its differences in final accuracy and its standing; and say what the tests could find at all."""
    measured = [row for row in rows if row.estimates["final_accuracy"]]
    lower = lower_reference(measured)
    to_lower = _differences(measured, lower) if lower else {}
    rows = [replace(row, to_lower=to_lower.get(row.strategy)) for row in rows]
    contenders = [row for row in measured if row.reference != "upper" and not row.constant_in]
    if len(contenders) < 2:
        return rows, []
    guessing = chance(contenders[-1])
    if fmean(final_accuracies(contenders[-1])) <= guessing:
        return rows, [f"No strategy ends above guessing ({100 * guessing:.1f}), so none is called the best."]
    standings = _standings(contenders)
    rows = [replace(row, **standings.get(row.strategy, {})) for row in rows]
    return rows, _notes_on_ties(contenders[-1], any(row.standing == "tied" for row in rows))


def _standings(contenders: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return by label what a row says of the best, which is the last of the contenders."""
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
    """Return the differences in final accuracy of the other rows to one of them, by label, as one family of tests."""
    others = [row for row in rows if row is not to]
    found = statistics.differences([final_accuracies(row) for row in others], final_accuracies(to))
    return {row.strategy: difference for row, difference in zip(others, found, strict=True)}


def chance(row: Row) -> float:
    """Return what guessing among all classes gets right, in the setting of the row's runs."""
    run = row.runs[0]
    return run.result.chance[run.setting][-1]


def final_accuracies(row: Row) -> list[float]:
    """Return the final accuracy of each seed of a row that has one."""
    return [run.metric("final_accuracy") for run in row.runs]


def _notes_on_ties(best: Row, some_tied: bool) -> list[str]:
    seeds = len(best.runs)
    if seeds == 1:
        same = [f"≈ marks what ends exactly as high as {best.strategy}."] if some_tied else []
        return ["One seed: no interval and no test. No difference here says anything about other seeds.", *same]
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
