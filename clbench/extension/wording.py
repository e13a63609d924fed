"""Formats names, reasons and lineages as lines of text for the user."""

from __future__ import annotations

from collections.abc import Sequence

from clbench.results.extension_result import LeftOut
from clbench.results.network_record import LineageStep


def some(names: Sequence[str]) -> str:
    """Return the first names of a list: `cat, dog, … and 7 more`."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def reasons_in_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """Return which strategies are left out and why, a line for each reason: `er, icarl: it replays …`."""
    by_reason: dict[str, list[str]] = {}
    for each in left_out:
        by_reason.setdefault(each.reason, []).append(each.strategy)
    return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def lineage_in_lines(steps: Sequence[LineageStep]) -> list[str]:
    """Return the steps that made a network, a line for each: `extend, lwf, seed 0: 3 classes, 240 images: cat, …`."""
    lines = []
    for step in steps:
        how = [step.command, *([step.strategy] if step.strategy else [])]
        how += [f"seed {step.seed}"] if step.seed is not None else []
        count = f"{len(step.classes)} class{'es' if len(step.classes) != 1 else ''}"
        images = f" from {step.images:,} images" if step.images is not None else ""
        lines.append(f"{', '.join(how)}: {count}{images}: {some(step.classes)}")
    return lines
