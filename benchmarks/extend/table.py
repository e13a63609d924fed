"""The tables: accuracy on old and on new classes, and each strategy's difference to naive training."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from clbench.comparison.statistics import Estimate, estimate, paired

Row = dict[str, Any]

_CASES = {
    "caltech-1": "Caltech-101, 20 + 1",
    "caltech-3": "Caltech-101, 20 + 1 + 1 + 1",
    "tiny": "Tiny ImageNet, 100 + 10",
    "cifar": "CIFAR-10, 8 + 1 + 1",
    "gtsrb": "GTSRB, 40 + 1 + 1 + 1",
    "resnet": "ResNet-18 from elsewhere, 20 + 1",
    "module": "own module from elsewhere, 20 + 1",
}
"""Their headings: the classes of the first network, and those that each step adds."""


def print_tables(rows: Sequence[Row]) -> None:
    """Print a table for each case, in Markdown."""
    for case in dict.fromkeys(row["case"] for row in rows):
        own = [row for row in rows if row["case"] == case]
        seeds = sorted({row["seed"] for row in own})
        print(f"\n{case}: {len(seeds)} seeds\n")
        print("\n".join(table(own)))
    print()
    print("\n".join(overview(rows)))


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table: one strategy per line, the best mean of old and new first."""
    groups: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        groups.setdefault((row["strategy"], row["trains"]), {})[row["seed"]] = row
    lines = [
        "| strategy | trains | old before | old after | new | mean of both | old, Δ vs naive |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    ranked = sorted(groups.items(), key=lambda item: -fmean(_both(row) for row in item[1].values()))
    for (strategy, trains), by_seed in ranked:
        naive = groups.get(("naive", trains), {})
        common = sorted(by_seed.keys() & naive.keys())
        against = None
        if strategy != "naive" and common:
            against = paired([by_seed[seed]["old"] for seed in common], [naive[seed]["old"] for seed in common])
        cells = [[row["before"] for row in by_seed.values()], [row["old"] for row in by_seed.values()]]
        cells += [[row["new"] for row in by_seed.values()], [_both(row) for row in by_seed.values()]]
        shown = [_text(estimate(values)) for values in cells]
        lines.append(f"| {strategy} | {trains} | {' | '.join(shown)} | {_text(against, signed=True)} |")
    return lines


def _both(row: Row) -> float:
    return float(row["old"] + row["new"]) / 2


def _text(value: Estimate | None, signed: bool = False) -> str:
    if value is None:
        return "–"
    sign = "+" if signed and value.mean >= 0 else ""
    width = "" if value.half_width is None else f" ±{100 * value.half_width:.1f}"
    return f"{sign}{100 * value.mean:.1f}{width}"


def overview(rows: Sequence[Row]) -> list[str]:
    """Return the lines of one table for all cases: old accuracy afterwards / new accuracy, training only the head."""
    own = [row for row in rows if row["trains"] == "head"]
    cases = list(dict.fromkeys(row["case"] for row in own))
    strategies = dict.fromkeys(row["strategy"] for row in own)
    headings = [_CASES.get(case, case) for case in cases]
    lines = [f"| old after / new | {' | '.join(headings)} |", f"| --- |{' --- |' * len(cases)}"]
    before = [fmean([row["before"] for row in own if row["case"] == case]) for case in cases]
    lines.append(f"| old before | {' | '.join(f'{100 * value:.1f}' for value in before)} |")
    for strategy in strategies:
        cells = []
        for case in cases:
            found = [row for row in own if (row["case"], row["strategy"]) == (case, strategy)]
            old, new = (fmean([row[key] for row in found]) for key in ("old", "new")) if found else (None, None)
            cells.append("–" if old is None or new is None else f"{100 * old:.1f} / {100 * new:.1f}")
        lines.append(f"| {strategy} | {' | '.join(cells)} |")
    return lines
