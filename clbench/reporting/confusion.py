"""The confusion matrices of the lower reference and of the highest remedy after the last experience."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from clbench.comparison.classes import class_confusion, class_ids, class_name, experience_confusion, one_order
from clbench.comparison.rows import Comparison, Row, lower_reference
from clbench.reporting.figure import Figure
from clbench.reporting.heatmaps import draw_confusion
from clbench.reporting.labels import short
from clbench.reporting.rendering import Panel
from clbench.system.output import as_csv

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BY_CLASS = 20
"""With more classes, the matrix is by experience."""


@dataclass(frozen=True)
class _Shown:
    """A matrix of samples (rows: true; columns: predicted), and what a row of it stands for."""

    row: Row
    by_class: NDArray[Any]
    counts: NDArray[Any]
    """The same counts, or those by experience."""

    names: tuple[str, ...]
    unit: str

    @property
    def shares(self) -> list[list[float | None]]:
        return [[count / sum(line) if sum(line) else None for count in line] for line in self.counts.tolist()]


def confusion(comparison: Comparison) -> Figure:
    """Confusions of classes, or of experiences; no panels without an evaluation at the end."""
    shown = _shown(comparison)
    panels = tuple(
        (each.row.title, matrix_panel(each.row.title, each.shares, each.names, each.names, each.unit)) for each in shown
    )
    rows = tuple(
        (each.row.strategy, name, *("–" if value is None else f"{100 * value:.1f}" for value in line))
        for each in shown
        for name, line in zip(each.names, each.shares, strict=True)
    )
    headings = ("strategy", f"true {shown[0].unit}", *shown[0].names) if shown else ("strategy",)
    note = "Each row sums to 100 %, over the samples of all seeds."
    if shown and shown[0].unit == "class" and not one_order(comparison):
        note += " The class order differs between seeds: classes are in the dataset's order."
    return Figure("confusion", "Confusion matrices", panels, headings, rows, note, _csv(comparison, shown))


def finding(comparison: Comparison) -> str:
    """Return the most frequent confusion of each strategy that is shown."""
    told = []
    for each in _shown(comparison):
        wrong = [
            (share, i, j) for i, line in enumerate(each.shares) for j, share in enumerate(line) if i != j and share
        ]
        if wrong:
            share, i, j = max(wrong)
            named = f"{each.unit} {each.names[i]} as {each.names[j]}"
            told.append(f"{each.row.strategy} predicts {100 * share:.0f} % of {named}")
        else:
            told.append(f"{each.row.strategy} makes none")
    return f"The most frequent error: {'; '.join(told)}."


def _shown(comparison: Comparison) -> list[_Shown]:
    """Return the matrices of the lower reference and the best remedy; if there is neither, of the best strategy."""
    measured = [row for row in comparison.rows if row.estimates["final_accuracy"]]
    lower = lower_reference(measured)
    remedies = [row for row in measured if row.is_remedy]
    chosen = [*([lower] if lower else []), *remedies[-1:]] or measured[-1:]
    found = []
    for row in chosen:
        by_class = class_confusion(comparison, row)
        if len(by_class) <= _BY_CLASS:
            names = tuple(class_name(comparison, each) for each in class_ids(comparison))
            found.append(_Shown(row, by_class, by_class, names, "class"))
        else:
            by_experience = experience_confusion(row)
            names = tuple(str(i + 1) for i in range(len(by_experience)))
            found.append(_Shown(row, by_class, by_experience, names, "experience"))
    return found


def matrix_panel(
    title: str,
    shares: Sequence[Sequence[float | None]],
    names: Sequence[str],
    answers: Sequence[str],
    unit: str,
    divided: tuple[int, int] | None = None,
) -> Panel:
    """Return the panel of a matrix, whose size and margins depend on how many names it has and how long they are.

    `names` label the rows, `answers` the columns; `divided` draws a line before that row and one before that column.
    """
    across, down = ([short(name, 8) for name in each] for each in (answers, names))
    cell = min(0.24, 4.8 / len(across))
    width, height = max(1.5, cell * len(across)), cell * len(down)
    if len(down) == len(across):
        height = width
    left, bottom = (0.4 + min(0.09 * max(map(len, labels)), 1.0) for labels in (down, across))
    margins = {"left": left, "right": 0.75, "top": 0.32, "bottom": bottom}
    title = short(title, 7.2 * (width + margins["right"]))
    size = (width + left + margins["right"], height + margins["top"] + bottom)
    draw = partial(draw_confusion, title=title, shares=shares, names=down, answers=across, unit=unit, divided=divided)
    return Panel(draw, *size, **margins)


def _csv(comparison: Comparison, shown: Sequence[_Shown]) -> str:
    """Return a row for each pair of true and predicted class that occurred at least once."""
    ids = class_ids(comparison)
    lines: list[list[object]] = [["strategy", "n", "class", "class_name", "predicted", "predicted_name", "samples"]]
    for each in shown:
        for i, j in zip(*each.by_class.nonzero(), strict=True):
            pair = (ids[i], class_name(comparison, ids[i]), ids[j], class_name(comparison, ids[j]))
            lines.append([each.row.strategy, len(each.row.seeds), *pair, int(each.by_class[i, j])])
    return as_csv(lines)
