"""Sentences that say what the figures of single classes and domains show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from clbench.comparison.classes import class_accuracies, class_name
from clbench.comparison.domains import domain_accuracies
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.statistics import Estimate
from clbench.reporting.findings import few, rest
from clbench.system.output import legible

Key = TypeVar("Key", int, str)


def per_class(comparison: Comparison) -> str:
    """Return the finding of the accuracy on each class: the lowest and the highest class of each strategy."""
    return _range(comparison, class_accuracies, "class", "classes", partial(class_name, comparison))


def per_domain(comparison: Comparison) -> str:
    """Return the finding of the accuracy on each domain: the lowest and the highest domain of each strategy."""
    return _range(comparison, domain_accuracies, "domain", "domains", legible)


def _range(
    comparison: Comparison,
    accuracies: Callable[[Row], Mapping[Key, Estimate | None]],
    one: str,
    several: str,
    name: Callable[[Key], str],
) -> str:
    told = []
    for row in few(comparison.rows):
        known = [(made.mean, each) for each, made in accuracies(row).items() if made]
        if known:
            (least, lowest), (most, highest) = min(known), max(known)
            low, high = f"{100 * least:.0f} % ({one} {name(lowest)})", f"{100 * most:.0f} % ({one} {name(highest)})"
            told.append(f"{row.strategy} {low} to {high}")
    if not told:
        return "No strategy was evaluated after the last experience."
    return f"Range over the {several}: {', '.join(told)}{rest(comparison.rows)}."
