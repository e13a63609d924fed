"""Writes the warnings and notes on a comparison: what a reader must know before trusting it, and how to read it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from clbench.comparison.columns import SHARES, lowest, uninformative
from clbench.comparison.rows import Row, class_sizes
from clbench.results.stored_run import StoredRun
from clbench.system.tables import listed

MANY_TIMES = 5
"""There is a warning if a test class is this many times as large as another."""


def warnings_on(rows: Sequence[Row], shared: Sequence[int], methods: dict[str, dict[int, StoredRun]]) -> list[str]:
    """Return the warnings on rows over the `shared` seeds; `methods` has all runs by label and seed."""
    return [
        *_seed_warnings(shared, methods),
        *_budget_warnings(rows),
        *_exemplar_warnings(rows),
        *_loop_warnings(rows),
        *_imbalance_warnings(rows[0].runs[0]),
        *_constant_loss_warnings(rows),
        *_evaluation_warnings(rows),
    ]


def notes_on(rows: Sequence[Row]) -> list[str]:
    """Return notes that help to read the rows: reference values, and uninformative intervals."""
    return [_reference_lines(rows[0].runs[0]), *_domain_notes(rows[0].runs[0]), *_interval_notes(rows)]


def _seed_warnings(shared: Sequence[int], methods: dict[str, dict[int, StoredRun]]) -> list[str]:
    if not shared:
        return ["The strategies have no seed in common: their rows cannot be compared with each other."]
    left_out = {label: sorted(set(by_seed) - set(shared)) for label, by_seed in methods.items()}
    return [
        f"Seeds {_ranges(seeds)} of {label} are left out: not every strategy has them."
        for label, seeds in sorted(left_out.items())
        if seeds
    ]


def _ranges(seeds: Sequence[int]) -> str:
    """Return the seeds, which are in order; of many as ranges: `0 to 99, 120`."""
    if len(seeds) <= 20:
        return ", ".join(map(str, seeds))
    starts = [seed for before, seed in zip([None, *seeds], seeds, strict=False) if before != seed - 1]
    ends = [seed for seed, after in zip(seeds, [*seeds[1:], None], strict=True) if after != seed + 1]
    return ", ".join(f"{a} to {b}" if a != b else str(a) for a, b in zip(starts, ends, strict=True))


def _exemplar_warnings(rows: Sequence[Row]) -> list[str]:
    """Report how many exemplars the strategies may store, if some may store any and others more, fewer or none."""
    names: dict[int, list[str]] = defaultdict(list)
    with_all_data: list[str] = []
    for row in rows:
        facts = row.runs[0].facts
        (with_all_data if facts.past_data else names[facts.memory]).append(row.strategy)
    budgets = sorted(filter(None, names))
    if not budgets or len(names) == 1:
        return []
    first, *more = budgets
    parts = [f"{listed(names[first])} may store {first:,} exemplars"]
    parts += [f"{listed(names[budget])} {budget:,}" for budget in more]
    parts += [f"{listed(with_all_data)} all data"] if with_all_data else []
    parts += ["the others none" if len(names[0]) > 1 else f"{names[0][0]} none"] if names[0] else []
    return [f"Unequal exemplar budgets: {'; '.join(parts)}."]


def _budget_warnings(rows: Sequence[Row]) -> list[str]:
    seen = {row.strategy: made.mean for row in rows if (made := row.estimates["samples_seen"])}
    budgets = {name: samples for name, samples in seen.items() if samples}
    without = [name for name in seen if name not in budgets]
    warnings = [f"No gradient steps: {listed(without)}."] if without and budgets else []
    return warnings + _unequal(budgets)


def _unequal(budgets: Mapping[str, float]) -> list[str]:
    if len(set(budgets.values())) <= 1:
        return []
    least = min(budgets.values())
    if len(budgets) > 8:
        most = max(budgets, key=budgets.__getitem__)
        return [
            f"Unequal budgets: {most} has seen {budgets[most] / least:.1f}× the samples of the lowest; see the column."
        ]
    more = ", ".join(f"{name} {budget / least:.1f}×" for name, budget in budgets.items() if budget > least)
    return [f"Unequal budgets: samples seen, as multiples of the least: {more}."]


def _loop_warnings(rows: Sequence[Row]) -> list[str]:
    """Report which rows were trained by another package's loop, since their seconds are mostly that loop's."""
    packages: dict[str, list[str]] = {}
    for row in rows:
        if package := row.runs[0].spec.strategy.package:
            packages.setdefault(package, []).append(row.strategy)
    return [
        f"Trained by the loop of {package}: {', '.join(names)}. Do not compare their seconds with other rows."
        for package, names in sorted(packages.items())
    ]


def _imbalance_warnings(run: StoredRun) -> list[str]:
    warnings = _untested_classes(run)
    least, most = class_sizes(run)
    if most < MANY_TIMES * least:
        return warnings
    return [
        *warnings,
        f"Unequal classes: the largest has {most:,} test samples, the smallest {least:,}. Accuracies count samples, so "
        "large classes dominate them; macro accuracy is the mean over classes.",
    ]


def _untested_classes(run: StoredRun) -> list[str]:
    scenario = run.spec.scenario
    untested = [
        scenario.class_name(scenario.class_order[position])
        for position, total in enumerate(run.counts().class_total)
        if not total
    ]
    if not untested:
        return []
    have = "1 class has" if len(untested) == 1 else f"{len(untested)} classes have"
    names = ", ".join(sorted(untested)[:5]) + (", …" if len(untested) > 5 else "")
    return [f"{have} no test samples ({names}): how well they are learned is unknown, and no accuracy includes them."]


def _constant_loss_warnings(rows: Sequence[Row]) -> list[str]:
    """Warn of uninformative losses in some experiences; for the first, only that there is one class to learn."""
    constant: dict[tuple[int, ...], list[str]] = defaultdict(list)
    idle: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for row in rows:
        constant[row.constant_in].append(row.strategy)
        idle[row.idle_in].append(row.strategy)
    warnings = [
        f"The cross-entropy of {listed(names)} ranges over the new classes only. If there is just one "
        f"({_experiences(where)}), it is always 0 and does not learn that class. Not called the best."
        for where, names in constant.items()
        if where
    ]
    warnings += [
        f"The loss of {listed(names)} was 0 at every step of {_experiences(where)}: nothing was learned there. Not "
        "called the best."
        for where, names in idle.items()
        if where
    ]
    if any(0 in row.runs[0].facts.constant_in for row in rows):
        warnings.append(
            "Experience 0 has one class. While there is no other, a cross-entropy is always 0 and trains nothing."
        )
    return warnings


def _experiences(indices: Sequence[int]) -> str:
    some = listed([str(index) for index in indices[:8]])
    return f"experience{'s' if len(indices) > 1 else ''} {some}{', …' if len(indices) > 8 else ''}"


def _evaluation_warnings(rows: Sequence[Row]) -> list[str]:
    """Warn of runs that should be evaluated within experiences, but whose experiences end before."""
    trained = [row for row in rows if (row.runs[0].facts.ends or [0])[-1]]
    without = [row for row in trained if not ((curve := row.runs[0].curve()) and curve.steps)]
    if not without:
        return []
    most = max(end - begin for row in without for begin, end in pairwise((0, *(row.runs[0].facts.ends or ()))))
    of = "" if len(without) == len(trained) else f" of {listed([row.strategy for row in without])}"
    longest = f"{most:,} gradient step{'' if most == 1 else 's'}"
    return [
        f"No evaluation{of} falls within an experience; the longest has {longest}. Anytime, minimum and worst-case "
        "accuracy and the stability gap are based on the ends only. Lower stream.evaluate_every."
    ]


def _reference_lines(run: StoredRun) -> str:
    chance = {setting: 100 * values[-1] for setting, values in run.facts.chance.items()}
    if len(run.spec.scenario.readings) == 1:
        return f"For comparison: guessing gives {chance[run.setting]:.1f}."
    total = run.counts().total
    return (
        f"For comparison: guessing gives {chance['class_incremental']:.1f} class-incrementally and "
        f"{chance['task_incremental']:.1f} task-incrementally; knowing only the last experience gives "
        f"{100 * total[-1] / sum(total):.1f} class-incrementally."
    )


def _domain_notes(run: StoredRun) -> list[str]:
    return (
        ["Old classes are the classes of earlier domains, new ones those of the newest."]
        if run.spec.scenario.domains
        else []
    )


def _interval_notes(rows: Sequence[Row]) -> list[str]:
    shares = [(column, row.estimates[column]) for row in rows for column in SHARES]
    shares += [("intransigence", row.intransigence) for row in rows]
    if not any(made and uninformative(made, lowest(column)) for column, made in shares):
        return []
    return ["±? is an interval that covers every possible value: so few seeds say nothing about that mean."]
