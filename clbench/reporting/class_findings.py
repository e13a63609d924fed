"""What the figures of single classes show, in sentences."""

from __future__ import annotations

from functools import partial

from clbench.comparison.classes import class_accuracies, class_ids, class_name
from clbench.comparison.rows import Comparison
from clbench.reporting.findings import few, rest


def per_class(comparison: Comparison) -> str:
    """Return the finding of the accuracy on each class: the lowest and the highest class of each strategy."""
    name = partial(class_name, comparison)
    told = []
    for row in few(comparison.rows):
        accuracies = class_accuracies(row)
        known = [(made.mean, each) for each in class_ids(comparison) if (made := accuracies.get(each))]
        if known:
            (least, lowest), (most, highest) = min(known), max(known)
            low, high = f"{100 * least:.0f} % (class {name(lowest)})", f"{100 * most:.0f} % (class {name(highest)})"
            told.append(f"{row.strategy} {low} to {high}")
    if not told:
        return "No strategy was evaluated after the last experience."
    return f"Range over the classes: {', '.join(told)}{rest(comparison.rows)}."
