"""Figures for the page of an extended network: accuracy per class before and after, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from clbench.evaluation.proportions import Proportion, proportion
from clbench.reporting.confusion import matrix_panel
from clbench.reporting.figure import Figure
from clbench.reporting.labels import brief, short
from clbench.reporting.rendering import Panel, png
from clbench.results.extension_result import Candidate, ExtensionResult, JudgedClass

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BEFORE, _OLD, _NEW = "#808080", "#0072B2", "#D55E00"

_EACH = 40
"""If there are more old or new classes, the most informative ones are drawn, and a histogram of all."""

_PER_PANEL = 20
"""Classes in one panel, one below the other."""

_IN_MATRIX = 30
"""With more classes a matrix would be illegible; the list remains."""

_ROOM = 13.0
"""Width of a class's name in a drawing, in em."""


@dataclass(frozen=True)
class ClassShares:
    """The shares of one class's test images that are recognized; None if it cannot be judged."""

    of: JudgedClass
    before: Proportion | None
    after: Proportion | None

    @property
    def change(self) -> float | None:
        """The gain, or the loss if negative, as a share of the test images."""
        return self.after.value - self.before.value if self.before and self.after else None


def class_shares(kept: Candidate) -> list[ClassShares]:
    """Return the recognized shares of each class, in the order of the scores."""
    return [
        ClassShares(
            each,
            None if each.correct_before is None else proportion(each.correct_before, each.test_images),
            proportion(each.correct_after, each.test_images),
        )
        for each in kept.classes
    ]


def main_figure(result: ExtensionResult) -> bytes:
    """Return the figure of each class before and after as PNG, for a notebook; empty if no class can be judged."""
    panels = [panel for _, panel in per_class(result).panels]
    return png(panels, 2) if panels else b""


def per_class(result: ExtensionResult) -> Figure:
    """Accuracy on each class with its interval: old ones before and after, new ones after; no panels without any."""
    shares = class_shares(result.kept)
    judged = [each for each in shares if each.after]
    old = sorted((each for each in judged if not each.of.is_new), key=lambda each: each.change or 0)
    new = sorted((each for each in judged if each.of.is_new), key=lambda each: each.after.value if each.after else 0)
    panels, notes = [], []
    if old:
        drawn = old if len(old) <= _EACH else _most_changed(old)
        panels += _panels("Old classes: ○ before, ● after", drawn)
        if drawn is not old:
            panels.append(_histogram("All old classes: change", [100 * (each.change or 0) for each in old], _OLD, -100))
            notes.append(
                f"The {len(drawn)} of {len(old)} old classes that changed most are drawn, and a histogram of all."
            )
    if new:
        drawn = new if len(new) <= _EACH else new[:_PER_PANEL]
        titled = "New class" if len(new) == 1 else "New classes"
        panels += _panels(titled if result.old_classes else "Classes", drawn)
        if drawn is not new:
            values = [100 * each.after.value for each in new if each.after]
            panels.append(_histogram("All new classes" if result.old_classes else "All classes", values, _NEW, 0))
            kind = "new classes" if result.old_classes else "classes"
            notes.append(
                f"The {len(drawn)} of {len(new)} {kind} with the lowest accuracy are drawn, and a histogram of all."
            )
    title = "Each class before and after" if old else "Each new class" if result.old_classes else "Each class"
    return Figure("per-class", title, tuple(panels), *_numbers(result, shares), " ".join(notes))


def _most_changed(old: Sequence[ClassShares]) -> list[ClassShares]:
    """Return the classes that changed most, those that lost first; `old` is sorted from the largest loss on."""
    most = sorted(old, key=lambda each: -abs(each.change or 0))[:_PER_PANEL]
    return [each for each in old if each in most]


def _numbers(
    result: ExtensionResult, shares: Sequence[ClassShares]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the headings and rows of the table of all classes."""
    if not result.old_classes:
        rows = [
            (each.of.name, f"{each.of.train_images:,}", f"{each.of.test_images:,}", _cell(each.after))
            for each in shares
        ]
        return ("class", "trained on", "test images", "accuracy, %"), tuple(rows)
    lines = [
        (
            each.of.name,
            "new" if each.of.is_new else "old",
            f"{each.of.train_images:,}",
            f"{each.of.test_images:,}",
            "–" if each.of.is_new else _cell(each.before),
            _cell(each.after),
            "–" if each.change is None else f"{100 * each.change:+.1f}".replace("-", "−"),
        )
        for each in shares
    ]
    headings = ("class", "old or new", "trained on", "test images", "before, %", "after, %", "change, points")
    return headings, tuple(lines)


def _cell(value: Proportion | None) -> str:
    return f"{100 * value.value:.1f} ({interval(value)})" if value else "cannot be judged"


def interval(value: Proportion) -> str:
    """Return the ends of an interval in percent: `72.2 to 100.0`."""
    return f"{100 * value.low:.1f} to {100 * value.high:.1f}"


def _panels(title: str, shares: Sequence[ClassShares]) -> list[tuple[str, Panel]]:
    parts = [shares[start : start + _PER_PANEL] for start in range(0, len(shares), _PER_PANEL)]
    made = []
    for number, part in enumerate(parts, start=1):
        named = f"{title}, part {number} of {len(parts)}" if len(parts) > 1 else title
        names = [short(each.of.name, _ROOM) for each in part]
        left = min(0.25 + 0.085 * max(map(len, names)), 1.75)
        margins = {"left": left, "right": 0.15, "top": 0.32, "bottom": 0.45}
        height = 0.22 * len(part) + 0.1
        draw = partial(_draw_classes, title=named, shares=part, names=names)
        made.append((named, Panel(draw, left + 2.6 + 0.15, height + 0.77, **margins)))
    return made


def _draw_classes(axes: Axes, *, title: str, shares: Sequence[ClassShares], names: Sequence[str]) -> None:
    """Draw a row per class from the top: before as a ring, after as a dot below it, each on its interval's line."""
    axes.set_title(title)
    axes.title.set_x(0)
    for row, each in enumerate(shares):
        colour = _NEW if each.of.is_new else _OLD
        paired = 0.17 if each.before else 0.0
        if each.before:
            _mark(axes, each.before, row - paired, _BEFORE, filled=False)
        if each.after:
            _mark(axes, each.after, row + paired, colour, filled=True)
    axes.set(xlim=(-3, 103), ylim=(len(shares) - 0.4, -0.6), xlabel="accuracy, %", yticks=range(len(shares)))
    axes.set_yticklabels(names)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(axis="x", linewidth=0.5, alpha=0.35)
    axes.set_axisbelow(True)


def _mark(axes: Axes, value: Proportion, height: float, colour: str, *, filled: bool) -> None:
    axes.plot([100 * value.low, 100 * value.high], [height, height], color=colour, linewidth=1.3)
    face = colour if filled else "white"
    axes.plot([100 * value.value], [height], "o", markersize=5, markerfacecolor=face, markeredgecolor=colour)


def _histogram(title: str, values: Sequence[float], colour: str, low: int) -> tuple[str, Panel]:
    margins = {"left": 0.6, "right": 0.15, "top": 0.32, "bottom": 0.45}
    draw = partial(_draw_histogram, title=title, values=values, colour=colour, low=low)
    return title, Panel(draw, 4.2, 3.0, **margins)


def _draw_histogram(axes: Axes, *, title: str, values: Sequence[float], colour: str, low: int) -> None:
    """Draw the number of classes by accuracy, or by its change if `low` is -100, in steps of 10 from `low` to 100."""
    from matplotlib.ticker import MaxNLocator

    changes = low < 0
    # Changes near 0 have their own bin, from -5 to 5; the last bin of accuracies includes 100.
    edges = [step - 5 for step in range(-100, 111, 10)] if changes else list(range(0, 101, 10))
    axes.hist(values, bins=edges, color=colour, rwidth=0.9)
    label = "change, points" if changes else "accuracy, %"
    axes.set(title=title, xlim=(low - 5 * changes, 100 + 5 * changes), xlabel=label, ylabel="classes")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))


def confusion_matrix(result: ExtensionResult) -> Figure:
    """Test images by true and predicted class; no panels for many classes, or without test images."""
    title, panel_title = "Which class is mistaken for which", "Share of each class, %"
    classes = result.kept.classes
    tested = [each for each in classes if each.test_images]
    if not tested or len(classes) > _IN_MATRIX:
        return Figure("confusion", title, (), (), ())
    count = {(each.true, each.answer): each.images for each in result.kept.confusion}
    counts = [[count.get((shown.name, answer.name), 0) for answer in classes] for shown in tested]
    shares = [[value / each.test_images for value in line] for each, line in zip(tested, counts, strict=True)]
    names, answers = ([each.name for each in group] for group in (tested, classes))
    divided = (sum(not each.is_new for each in tested), len(result.old_classes)) if result.old_classes else None
    panel = matrix_panel(panel_title, shares, names, answers, "class", divided)
    rows = tuple((name, *(f"{value:,}" for value in line)) for name, line in zip(names, counts, strict=True))
    note = "A row for each class with test images, a column for each predicted class; a row sums to 100 %."
    if divided is not None:
        note += " White lines separate old classes from new ones."
    return Figure("confusion", title, ((panel_title, panel),), ("shown", *map(brief, answers)), rows, note)
