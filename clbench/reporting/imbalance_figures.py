"""The figure for imbalanced training data: accuracy on each class, from the most frequent to the rarest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from clbench.comparison.classes import Frequency, by_frequency, class_name
from clbench.comparison.columns import percent
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.table import UNEQUAL
from clbench.reporting.drawing import draw_settings
from clbench.reporting.figure import Figure
from clbench.reporting.heatmaps import draw_classes
from clbench.reporting.labels import short
from clbench.reporting.rendering import Panel
from clbench.system.output import as_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PER_PANEL = 25
"""Classes in one panel, one below the other."""

_DRAWN = 200
"""If there are more classes, only the most frequent and the rarest are drawn."""


def imbalance(comparison: Comparison) -> Figure:
    """Training images of each class and its accuracy at the end, and the means over samples and over classes."""
    key, name = "imbalance", "Frequent and rare classes"
    if comparison.training_imbalance <= UNEQUAL:
        return Figure(key, name, (), (), ())
    of_rows = [by_frequency(row) for row in comparison.rows]
    ranks = list(range(len(of_rows[0])))
    shown = ranks if len(ranks) <= _DRAWN else [*ranks[: _DRAWN // 2], *ranks[-_DRAWN // 2 :]]
    title = "Training images of each class"
    images = Panel(partial(draw_images, title=title, images=[each.images for each in of_rows[0]]), 3.6, 2.6, right=0.2)
    panels = [(title, images)]
    for start in range(0, len(shown), _PER_PANEL):
        panels.append(_accuracies(comparison, of_rows, shown[start : start + _PER_PANEL]))
    panels.append(_means(comparison))
    headings = ("class", "training images", *(row.strategy for row in comparison.rows))
    rows = tuple(
        (_label(comparison, of_rows[0][rank], rank), f"{of_rows[0][rank].images:,.0f}", *_percents(of_rows, rank))
        for rank in ranks
    )
    note = "Classes are sorted from most to fewest training images; the numbers of images are next to the names."
    if of_rows[0][0].class_id is None:
        note += " The order of classes by frequency differs between seeds: classes of equal rank are averaged."
    if shown != ranks:
        note += f" The {_DRAWN // 2} most frequent and the {_DRAWN // 2} rarest of {len(ranks)} classes are drawn."
    return Figure(key, name, tuple(panels), headings, rows, note, _csv(comparison, of_rows))


def _percents(of_rows: Sequence[Sequence[Frequency]], rank: int) -> list[str]:
    return [percent(classes[rank].accuracy) for classes in of_rows]


def _label(comparison: Comparison, each: Frequency, rank: int) -> str:
    return f"rank {rank + 1}" if each.class_id is None else class_name(comparison, each.class_id)


def _accuracies(
    comparison: Comparison, of_rows: Sequence[Sequence[Frequency]], ranks: Sequence[int]
) -> tuple[str, Panel]:
    title = f"Accuracy on classes {ranks[0] + 1} to {ranks[-1] + 1}"
    first = of_rows[0]
    labels = [f"{short(_label(comparison, first[rank], rank), 8)} · {first[rank].images:,.0f}" for rank in ranks]
    strategies = [short(row.strategy, 10) for row in comparison.rows]
    means = [[value.mean if (value := of[rank].accuracy) else None for of in of_rows] for rank in ranks]
    draw = partial(
        draw_classes, title=title, means=means, strategies=strategies, classes=labels, starts=(), numbered=True
    )
    left, bottom = (min(0.2 + 0.09 * max(map(len, texts)), 1.6) for texts in (labels, strategies))
    width, height = max(0.31 * len(strategies), 1.6), 0.19 * len(ranks)
    return title, Panel(draw, width + left + 0.4, height + 0.32 + bottom, left=left, right=0.4, top=0.32, bottom=bottom)


def _means(comparison: Comparison) -> tuple[str, Panel]:
    title = "Mean over samples (filled) and over classes (hollow)"
    setting = comparison.spec.scenario.setting
    columns = ("final_accuracy", "final_accuracy_macro")
    draw = partial(draw_settings, title=title, comparison=comparison, columns=columns, readings=(setting,))
    return title, Panel(draw, height=0.9 + 0.27 * len(comparison.rows), left=1.75, right=0.3)


def draw_images(axes: Axes, *, title: str, images: Sequence[float]) -> None:
    """Draw a bar per class, on a logarithmic scale if the numbers of images differ widely."""
    axes.set_title(title)
    axes.bar(range(1, len(images) + 1), images, width=0.8, color=axes.xaxis.label.get_color(), alpha=0.45)
    axes.set(xlabel="rank of the class", ylabel="images", xlim=(0.3, len(images) + 0.7))
    if max(images) > 20 * max(1, min(images)):
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(0.5, min(images) / 2))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def finding(comparison: Comparison) -> str:
    """Return each strategy's accuracy on the frequent and on the rare classes."""
    told = []
    for row in comparison.rows:
        half = len(classes := by_frequency(row)) // 2
        parts = [_mean(classes[:half]), _mean(classes[-half:])]
        if None not in parts:
            told.append(f"{row.strategy} {parts[0]:.0f} and {parts[1]:.0f} %")
    times = f"The most frequent class has {comparison.training_imbalance:,.0f} times as many images as the rarest."
    said = (
        f" Mean accuracy on the more frequent and on the rarer half of the classes: {', '.join(told)}." if told else ""
    )
    return times + said


def _mean(classes: Sequence[Frequency]) -> float | None:
    known = [each.accuracy.mean for each in classes if each.accuracy]
    return 100 * fmean(known) if known else None


def _csv(comparison: Comparison, of_rows: Sequence[Sequence[Frequency]]) -> str:
    lines: list[list[object]] = [["strategy", "n", "rank", "class", "training_images", "accuracy", "half_width"]]
    rows: Sequence[Row] = comparison.rows
    for row, classes in zip(rows, of_rows, strict=True):
        for rank, each in enumerate(classes):
            value = each.accuracy
            numbers = [value.mean, value.half_width] if value else [None, None]
            lines.append([row.strategy, len(row.seeds), rank + 1, each.class_id, each.images, *numbers])
    return as_csv(lines)
