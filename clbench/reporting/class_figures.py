"""Figures of the accuracy on each class, and on each domain, after the last experience."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from clbench.comparison.classes import class_accuracies, class_ids, class_name, learned_in
from clbench.comparison.columns import percent
from clbench.comparison.domains import domain_accuracies, domain_names, one_domain_order
from clbench.comparison.rows import Comparison
from clbench.comparison.statistics import Estimate
from clbench.reporting.figure import Figure
from clbench.reporting.heatmaps import draw_classes
from clbench.reporting.labels import short
from clbench.reporting.rendering import Panel
from clbench.system.output import as_csv, legible

_PER_PANEL = 25
"""Classes in one panel, one below the other."""

_DRAWN = 200
"""If there are more classes, only the first and the last are drawn."""

_NUMBERED = 400
"""Up to this many cells, each shows its number; beyond it, colours alone keep the page small."""

Accuracies = Sequence[Mapping[int, Estimate | None]]
"""Accuracies by class, one mapping for each strategy."""


def per_domain(comparison: Comparison) -> Figure:
    """Accuracy on each domain after the last experience: a column per strategy, a row per domain."""
    names, ordered = domain_names(comparison), one_domain_order(comparison)
    accuracies = [domain_accuracies(row) for row in comparison.rows] if names else []
    drawn, cells = names[:_PER_PANEL], [[of.get(name) for of in accuracies] for name in names]
    panel = _panel(comparison, "All domains", [short(legible(name), 12) for name in drawn], cells[: len(drawn)])
    rows = tuple((legible(name), *map(percent, of)) for name, of in zip(names, cells, strict=True))
    note = (
        "Domains are in the order in which they were learned."
        if ordered
        else "The order differs between seeds: domains are averaged by name."
    )
    few = "" if drawn == names else f" The first {len(drawn)} of {len(names)} domains are drawn."
    headings = ("domain", *(row.strategy for row in comparison.rows))
    title = "Accuracy on each domain at the end"
    return Figure("per-domain", title, (("All domains", panel),) if names else (), headings, rows, note + few)


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
        "Classes are in the order in which they were learned, each preceded by the number of its experience."
        if brought
        else "The class order differs between seeds: classes are in the dataset's order."
    )
    few = "" if shown == classes else f" The first and the last {_DRAWN // 2} of {len(classes)} classes are drawn."
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
    labels = [
        f"{brought[each] + 1} · {short(name, 8)}" if brought else short(name, 9.5)
        for each, name in zip(classes, names, strict=True)
    ]
    starts = [n for n in range(1, len(classes)) if brought and brought[classes[n]] != brought[classes[n - 1]]]
    cells = [[of.get(each) for of in accuracies] for each in classes]
    return title, _panel(comparison, title, labels, cells, starts, numbered)


def _panel(
    comparison: Comparison,
    title: str,
    labels: Sequence[str],
    cells: Sequence[Sequence[Estimate | None]],
    starts: Sequence[int] = (),
    numbered: bool = True,
) -> Panel:
    """Return a heatmap with a row for each label and a column for each strategy; lines are drawn above `starts`."""
    strategies = [short(row.strategy, 10) for row in comparison.rows]
    means = [[value.mean if value else None for value in of] for of in cells]
    draw = partial(
        draw_classes,
        title=title,
        means=means,
        strategies=strategies,
        classes=labels,
        starts=starts,
        numbered=numbered,
    )
    left, bottom = (min(0.2 + 0.09 * max(map(len, texts), default=0), 1.4) for texts in (labels, strategies))
    margins = {"left": left, "right": 0.4 if numbered else 0.75, "top": 0.32, "bottom": bottom}
    width, height = max(0.31 * len(strategies), 1.2), 0.19 * len(labels)
    size = (width + margins["left"] + margins["right"], height + margins["top"] + margins["bottom"])
    return Panel(draw, *size, **margins)


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
