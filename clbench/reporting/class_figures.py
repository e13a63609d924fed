"""The figures of single classes after the last experience."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from clbench.comparison.classes import class_accuracies, class_ids, class_name, learned_in
from clbench.comparison.columns import percent
from clbench.comparison.rows import Comparison
from clbench.comparison.statistics import Estimate
from clbench.reporting.figure import Figure
from clbench.reporting.heatmaps import draw_classes
from clbench.reporting.labels import short
from clbench.reporting.rendering import Panel
from clbench.system.output import as_csv

_PER_PANEL = 25
"""Classes below each other in a panel."""

_DRAWN = 200
"""Of more classes the first and the last are drawn."""

_NUMBERED = 400
"""Cells of a figure that have their numbers in them; of more the colours alone keep the page small."""

Accuracies = Sequence[Mapping[int, Estimate | None]]
"""By class, one mapping for each strategy."""


def per_class(comparison: Comparison) -> Figure:
    """Accuracy on each class after the last experience: a column per strategy, a row per class."""
    classes, brought = class_ids(comparison), learned_in(comparison)
    accuracies = [class_accuracies(row) for row in comparison.rows]
    shown = classes if len(classes) <= _DRAWN else [*classes[: _DRAWN // 2], *classes[-_DRAWN // 2 :]]
    parts = [shown[start : start + _PER_PANEL] for start in range(0, len(shown), _PER_PANEL)]
    numbered = len(shown) * len(accuracies) <= _NUMBERED
    count = len(parts)
    titles = [f"Classes, part {part + 1} of {count}" for part in range(count)] if count > 1 else ["All classes"]
    panels = tuple(
        _class_panel(comparison, title, part, accuracies, brought, numbered)
        for title, part in zip(titles, parts, strict=True)
    )
    rows = tuple(
        (
            class_name(comparison, each),
            str(brought[each] + 1) if brought else "–",
            *(percent(of.get(each)) for of in accuracies),
        )
        for each in classes
    )
    headings = ("class", "learned in experience", *(row.strategy for row in comparison.rows))
    order = (
        "Classes are in the order in which they were learned, after the number of their experience."
        if brought
        else "The class order differs between seeds: classes are in the dataset's order."
    )
    few = "" if shown == classes else f" Drawn are the first and the last {_DRAWN // 2} of {len(classes)} classes."
    text = _class_csv(comparison, classes, accuracies, brought)
    return Figure("per-class", "Accuracy on each class at the end", panels, headings, rows, order + few, text)


def _class_panel(
    comparison: Comparison,
    title: str,
    classes: Sequence[int],
    accuracies: Accuracies,
    brought: Mapping[int, int],
    numbered: bool,
) -> tuple[str, Panel]:
    names = [class_name(comparison, each) for each in classes]
    strategies = [short(row.strategy, 10) for row in comparison.rows]
    labels = [
        f"{brought[each] + 1} · {short(name, 8)}" if brought else short(name, 9.5)
        for each, name in zip(classes, names, strict=True)
    ]
    means = [[value.mean if (value := of.get(each)) else None for of in accuracies] for each in classes]
    draw = partial(
        draw_classes,
        title=title,
        means=means,
        strategies=strategies,
        classes=labels,
        starts=[n for n in range(1, len(classes)) if brought and brought[classes[n]] != brought[classes[n - 1]]],
        numbered=numbered,
    )
    left, bottom = (min(0.2 + 0.09 * max(map(len, texts)), 1.4) for texts in (labels, strategies))
    margins = {"left": left, "right": 0.4 if numbered else 0.75, "top": 0.32, "bottom": bottom}
    width, height = max(0.31 * len(strategies), 1.2), 0.19 * len(classes)
    size = (width + margins["left"] + margins["right"], height + margins["top"] + margins["bottom"])
    return title, Panel(draw, *size, **margins)


def _class_csv(
    comparison: Comparison, classes: Sequence[int], accuracies: Accuracies, brought: Mapping[int, int]
) -> str:
    lines: list[list[object]] = [["strategy", "n", "class", "class_name", "experience", "accuracy", "half_width"]]
    for row, of in zip(comparison.rows, accuracies, strict=True):
        for each in classes:
            value = of.get(each)
            numbers = [value.mean, value.half_width] if value else [None, None]
            name = class_name(comparison, each)
            lines.append([row.strategy, len(row.seeds), each, name, brought[each] + 1 if brought else None, *numbers])
    return as_csv(lines)
