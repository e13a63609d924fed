"""Compares strategies over several scenarios for the report page: a table and, if a test is possible, mean ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from clbench.comparison.columns import percent
from clbench.comparison.rows import Comparison, Reference
from clbench.comparison.scenarios import Across, AcrossRow, Rank, across
from clbench.reporting.exports import latex_table, latex_text
from clbench.reporting.figure import Figure
from clbench.reporting.labels import short
from clbench.reporting.provenance import slug
from clbench.reporting.rendering import Panel
from clbench.reporting.sections import ShownFigure, show
from clbench.reporting.strategy_marks import appearance
from clbench.system.output import as_csv
from clbench.system.tables import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class AcrossCell:
    """A cell of the table: its text, the number that the column is sorted by, and whether it is the column's best."""

    text: str
    value: float | None = None
    best: bool = False


@dataclass(frozen=True)
class AcrossLine:
    """A line of the table: the strategy, and a cell for each other column."""

    strategy: str
    reference: Reference | None
    cells: tuple[AcrossCell, ...]


@dataclass(frozen=True)
class ShownAcross:
    """The scenarios of a recipe as the page shows them."""

    across: Across
    title: str
    headings: tuple[str, ...]
    rows: tuple[AcrossLine, ...]
    file: str
    """Path of the table within the report, without the ending."""

    figures: tuple[ShownFigure, ...]


def across_scenarios(comparisons: Sequence[Comparison]) -> tuple[list[ShownAcross], dict[str, bytes]]:
    """Return what is shown for each recipe with several scenarios, and its files by their path within the report."""
    shown: list[ShownAcross] = []
    written: dict[str, bytes] = {}
    for number, each in enumerate(across(comparisons)):
        place = f"across/{slug(each.recipe)}-{number + 1}"
        title = f"Recipe {each.recipe} over {', '.join(each.scenarios)}"
        figures = []
        if ranks := each.ranks:
            drawn, files = show(_rank_figure(ranks), place, title, _finding(ranks, len(each.scenarios)))
            figures.append(drawn)
            written |= files
        headings, rows = _table(each)
        shown.append(ShownAcross(each, title, headings, rows, f"tables/{place}", tuple(figures)))
        written[f"tables/{place}.csv"] = _csv(each).encode(errors="replace")
        lines = [[latex_text(row.strategy), *map(_latex_cell, row.cells)] for row in rows]
        text = latex_table(f"{title}: final accuracy, %", f"l{'r' * (len(headings) - 1)}", headings, lines)
        written[f"tables/{place}.tex"] = text.encode(errors="replace")
    return shown, written


def _table(each: Across) -> tuple[tuple[str, ...], tuple[AcrossLine, ...]]:
    headings = ["strategy", *each.scenarios]
    if means := len(each.scenarios) > 2:
        headings += ["interquartile mean" if each.trimmed else "mean", "95 % interval"]
    lines = []
    for row in each.rows:
        cells = [AcrossCell(percent(final), final.mean, best) for final, best in zip(row.finals, row.best, strict=True)]
        lines.append(AcrossLine(row.strategy, row.reference, (*cells, *(_mean_cells(row) if means else ()))))
    return tuple(headings), tuple(lines)


def _mean_cells(row: AcrossRow) -> tuple[AcrossCell, AcrossCell]:
    made = row.mean
    assert made is not None
    interval = "–" if made.low is None or made.high is None else f"{100 * made.low:.1f} to {100 * made.high:.1f}"
    return AcrossCell(f"{100 * made.mean:.1f}", made.mean), AcrossCell(interval, made.low)


def _latex_cell(cell: AcrossCell) -> str:
    return rf"\textbf{{{latex_text(cell.text)}}}" if cell.best else latex_text(cell.text)


def _csv(each: Across) -> str:
    lines: list[list[object]] = [["strategy", "reference", "scenario", "n", "final_accuracy", "half_width", "best"]]
    for row in each.rows:
        for scenario, of, final, best in zip(each.scenarios, row.rows, row.finals, row.best, strict=True):
            lines.append(
                [row.strategy, row.reference, scenario, len(of.seeds), final.mean, final.half_width, int(best)]
            )
    return as_csv(lines)


def _rank_figure(ranks: Sequence[Rank]) -> Figure:
    title = "Mean ranks over the scenarios: left is best"
    height = 0.85 + 0.2 * ((len(ranks) + 1) // 2)
    panel = Panel(partial(_draw_ranks, title=title, ranks=ranks), 6.4, height, 1.75, 1.75, 0.62, 0.1)
    rows = tuple((rank.row.strategy, f"{rank.mean:.2f}", "yes" if rank.tied else "no") for rank in ranks)
    headings = ("strategy", "mean rank", "may be the best")
    return Figure("ranks", "Critical-difference diagram", ((title, panel),), headings, rows)


def _finding(ranks: Sequence[Rank], scenarios: int) -> str:
    """Return which strategies may be the best, and by which test."""
    tied = [rank.row.strategy for rank in ranks if rank.tied]
    first = f"{ranks[0].row.strategy} has the best mean rank, {ranks[0].mean:.1f} of {len(ranks)}"
    others = [name for name in tied if name != ranks[0].row.strategy]
    said = f"{listed(others)} may be as good (filled, joined by the bar)" if others else "no other may be as good"
    return (
        f"{first}; {said}, by a joint sign-flip test of the ranks in {scenarios} scenarios "
        "with a family-wise error of 0.05. It treats the scenarios as a sample of all that could be used."
    )


def _draw_ranks(axes: Axes, *, title: str, ranks: Sequence[Rank]) -> None:
    """Draw an axis of ranks with a mark for each strategy and its name on one side, after Demšar 2006, figure 1."""
    count = len(ranks)
    left = (count + 1) // 2
    colour = axes.xaxis.label.get_color()
    axes.set(xlim=(1, count), ylim=(-left - 0.5, 0), yticks=[])
    axes.set_title(title, pad=22)
    axes.xaxis.tick_top()
    axes.set_xticks(range(1, count + 1))
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.spines["top"].set_visible(True)
    for place, rank in enumerate(ranks):
        at_left = place < left
        height = -(place + 1) if at_left else -(count - place)
        look = appearance(rank.row.rows[0])
        edge = 1 if at_left else count
        axes.plot([rank.mean, rank.mean, edge], [0, height, height], color=look.colour, linewidth=0.9, clip_on=False)
        filled = look.colour if rank.tied else "none"
        axes.plot(rank.mean, 0, look.marker, color=look.colour, markerfacecolor=filled, markersize=7, clip_on=False)
        axes.annotate(
            f"\u200e{short(rank.row.strategy, 11)}\u200e {rank.mean:.1f}",
            xy=(edge, height),
            xytext=(-4 if at_left else 4, 0),
            textcoords="offset points",
            ha="right" if at_left else "left",
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
    last = max(rank.mean for rank in ranks if rank.tied)
    axes.plot([ranks[0].mean, last], [-0.45, -0.45], color=colour, linewidth=3, solid_capstyle="butt")
