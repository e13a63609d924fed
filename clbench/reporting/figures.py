"""What is drawn: each figure as panels, with the numbers that are in it.

Values are shares in [0, 1] and shown in percent. Experiences are counted from 1, as people count what was learned.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from clbench.comparison.comparison import Comparison, Row
from clbench.comparison.statistics import Estimate, estimate
from clbench.reporting.appearance import Appearance, appearance
from clbench.reporting.rendering import Panel
from clbench.results.stored_runs import StoredRun
from clbench.system.tables import readable_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABEL_GAP = 0.052
"""Distance between two labels at line ends, in heights of the axes."""

_AT_THE_LEFT = {"relpos": (0, 0.5)}
"""Where a leader meets its label, so that it does not run through others."""

_LEFT_TO_RIGHT = "\u200e"
"""Around a name, Hebrew or Arabic as it may be, it keeps the number behind it there."""


@dataclass(frozen=True)
class Figure:
    """A figure before it has words: panels to draw, and their numbers as a table."""

    key: str
    title: str
    panels: tuple[tuple[str, Panel], ...]
    """Each with the title that names it."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Curve:
    """A value per experience for one row: the estimate over seeds, and each seed's own; None where undefined."""

    row: Row
    estimates: tuple[Estimate | None, ...]
    seeds: tuple[tuple[float | None, ...], ...]


def curves(comparison: Comparison, values: Callable[[StoredRun], Sequence[float | None]]) -> list[Curve]:
    """Return a curve per row of what `values` gives of a run, a value per experience."""
    found = []
    for row in comparison.rows:
        seeds = tuple(tuple(values(run)) for run in row.runs)
        found.append(Curve(row, tuple(estimate(column) for column in zip(*seeds, strict=True)), seeds))
    return found


def metric(name: str) -> Callable[[StoredRun], Sequence[float | None]]:
    """Return the reader of a metric, in the setting of the run."""
    return lambda run: run.metric(name)


def percent(value: Estimate | None) -> str:
    """Return `54.6 ±14.0`, `54.6` where no interval is known, or a dash."""
    if value is None:
        return "–"
    return f"{100 * value.mean:.1f}" + ("" if value.half_width is None else f" ±{100 * value.half_width:.1f}")


def experiences(comparison: Comparison) -> int:
    """Return how many experiences the stream has."""
    return len(comparison.spec.scenario.classes_per_experience)


def short(label: str, room: float) -> str:
    """Return a label at most `room` em wide; what is left out of the middle is an ellipsis."""
    label = "".join(character if character.isprintable() else "�" for character in label)
    if sum(map(_em, label)) <= room:
        return label
    tail = _beginning(label[::-1], 0.4 * (room - _em("…")))[::-1]
    return f"{_beginning(label, room - sum(map(_em, f'…{tail}')))}…{tail}"


def _beginning(text: str, room: float) -> str:
    widths = accumulate(map(_em, text))
    return "".join(character for character, width in zip(text, widths, strict=True) if width <= room)


@cache
def _em(character: str) -> float:
    """Return the width of a character in em: that of DejaVu Sans, which is wide, and 1 in a script of wide ones."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a character that the font lacks is measured as the box that stands for it
        size = FontProperties(family="DejaVu Sans", size=1000)
        return text_to_path.get_text_width_height_descent(character, size, ismath=False)[0] / 1000


# -- the figures ------------------------------------------------------------------------------------------------------


def all_figures(comparison: Comparison) -> list[Figure]:
    """Return every figure of a comparison, in the order of the report."""
    own = [old_and_new, matrices, forgetting, stability_and_plasticity, cost]
    if comparison.spec.scenario.setting == "class_incremental":  # of which there is another reading
        own = [*own[:4], errors, cost, settings]
    return [draw(comparison) for draw in own]


def old_and_new(comparison: Comparison) -> Figure:
    """Accuracy on classes of earlier experiences, and on those just learned, after every experience."""
    old, new = (curves(comparison, metric(name)) for name in ("old_accuracy", "new_accuracy"))
    chance = comparison.rows[0].runs[0].result.chance[comparison.spec.scenario.setting]
    titles = ("Old classes: those of earlier experiences", "New classes: those just learned")
    panels = tuple(
        (title, Panel(partial(_draw_curves, title=title, found=found, start=start, chance=chance)))
        for title, found, start in zip(titles, (old, new), (1, 0), strict=True)
    )
    rows = tuple(
        (before.row.strategy, str(i + 1), percent(before.estimates[i]), percent(after.estimates[i]))
        for before, after in zip(old, new, strict=True)
        for i in range(experiences(comparison))
    )
    headings = ("strategy", "experiences learned", "old classes, %", "new classes, %")
    return Figure("old-new", "Old-class and new-class accuracy", panels, headings, rows)


def matrices(comparison: Comparison) -> Figure:
    """A heatmap per strategy: accuracy on experience j's test data after experience i."""
    count = experiences(comparison)
    panels, rows = [], []
    for row in comparison.rows:
        means = mean_matrix(row)
        panels.append((row.title, _matrix_panel(row.title, means)))
        for i, line in enumerate(means):
            texts = ["" if value is None else f"{100 * value:.1f}" for value in line]
            rows.append((row.strategy, str(i + 1), *texts))
    headings = ("strategy", "after", *(f"on {j + 1}" for j in range(count)))
    return Figure("matrices", "Accuracy matrices", tuple(panels), headings, tuple(rows))


def forgetting(comparison: Comparison) -> Figure:
    """Forgetting after every experience."""
    title = "Forgetting: best earlier accuracy less the present one"
    found = curves(comparison, metric("forgetting_after"))
    panel = Panel(partial(_draw_curves, title=title, found=found, start=1, label="forgetting, points"))
    return Figure("forgetting", "Forgetting", ((title, panel),), *_curve_table(found, "forgetting, points", 1))


def errors(comparison: Comparison) -> Figure:
    """Share of the old classes' test samples that are predicted as one of the newest classes."""
    title = "Old-class samples taken for the newest classes"
    found = curves(comparison, metric("recency_bias"))
    panel = Panel(partial(_draw_curves, title=title, found=found, start=1, label="share of old-class samples, %"))
    return Figure("errors", "Where the errors go", ((title, panel),), *_curve_table(found, "taken for newest, %", 1))


def stability_and_plasticity(comparison: Comparison) -> Figure:
    """Old-class against new-class accuracy after the last experience."""

    def ends(run: StoredRun) -> tuple[float, float] | None:
        old, new = run.metric("old_accuracy")[-1], run.metric("new_accuracy")[-1]
        return None if old is None or new is None else (old, new)

    title = "Stability (right) against plasticity (up)"
    points = [(row, [ends(run) for run in row.runs]) for row in comparison.rows]
    panel = Panel(partial(_draw_trade_off, title=title, points=points), height=3.6)
    rows = tuple(
        (row.strategy, percent(row.estimates["old_accuracy"]), percent(row.estimates["new_accuracy"]))
        for row in comparison.rows
    )
    headings = ("strategy", "old classes, %", "new classes, %")
    return Figure("stability-plasticity", "Stability against plasticity", ((title, panel),), headings, rows)


def cost(comparison: Comparison) -> Figure:
    """Final accuracy against seconds, and against bytes carried from experience to experience."""
    panels = tuple(
        (title, Panel(partial(_draw_cost, title=title, comparison=comparison, column=column)))
        for title, column in (
            ("Accuracy against time", "seconds"),
            ("Accuracy against bytes kept between experiences", "stored_bytes"),
        )
    )
    rows = []
    for row in comparison.rows:
        seconds, kept = row.estimates["seconds"], row.estimates["stored_bytes"]
        rows.append(
            (
                row.strategy,
                percent(row.estimates["final_accuracy"]),
                f"{seconds.mean:.1f}" if seconds else "–",
                readable_bytes(kept.mean) if kept else "–",
            )
        )
    headings = ("strategy", "final accuracy, %", "seconds", "bytes kept")
    return Figure("cost", "Cost against accuracy", panels, headings, tuple(rows))


def settings(comparison: Comparison) -> Figure:
    """Final accuracy of the same runs without and with the sample's experience given."""
    title = "Not told (filled) and told (hollow) the sample's experience"
    height = 0.9 + 0.27 * len(comparison.rows)
    draw = partial(_draw_settings, title=title, comparison=comparison)
    panel = Panel(draw, height=height, left=1.75, right=0.3)
    rows = tuple(
        (row.strategy, percent(row.estimates["final_accuracy"]), percent(row.estimates["task_incremental_accuracy"]))
        for row in comparison.rows
    )
    headings = ("strategy", "class-incremental, %", "task-incremental, %")
    return Figure("settings", "Class-incremental beside task-incremental", ((title, panel),), headings, rows)


def mean_matrix(row: Row) -> list[list[float | None]]:
    """Return the mean over seeds of R[i][j], E rows of E; None above the diagonal and where it was not evaluated."""
    stacked = [run.metric("accuracy_matrix") for run in row.runs]
    made = [[estimate(cell) for cell in zip(*lines, strict=True)] for lines in zip(*stacked, strict=True)]
    return [[cell.mean if cell else None for cell in line] for line in made]


def _curve_table(found: Sequence[Curve], value: str, start: int) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    rows = [
        (curve.row.strategy, str(i + 1), percent(curve.estimates[i]))
        for curve in found
        for i in range(start, len(curve.estimates))
    ]
    return ("strategy", "experiences learned", value), tuple(rows)


# -- drawing ----------------------------------------------------------------------------------------------------------


def _line_style(look: Appearance) -> dict[str, Any]:
    return {"color": look.colour, "linestyle": (0, look.dash) if look.dash else "-"}


def _draw_curves(
    axes: Axes,
    *,
    title: str,
    found: Sequence[Curve],
    start: int,
    chance: Sequence[float] | None = None,
    label: str = "accuracy, %",
) -> None:
    """A line per row from experience `start` on: seeds thin, mean thick, the t-interval a band, names at the ends."""
    from matplotlib.ticker import MaxNLocator

    count = len(found[0].estimates)
    axes.set_title(title)
    axes.set_xlabel("experiences learned")
    axes.set_ylabel(label)
    if start >= count:
        axes.text(0.5, 0.5, "one experience: no earlier classes", ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    lowest = 0.0
    for curve in found:
        look = appearance(curve.row)
        for seed in curve.seeds:
            for xs, ys in _pieces(seed):
                alone = "." if len(xs) == 1 else ""
                axes.plot(xs, ys, marker=alone, linewidth=0.6, alpha=0.45, **_line_style(look))
                lowest = min(lowest, *ys)
        for xs, ys in _pieces([each.mean if each else None for each in curve.estimates]):
            marker_every = max(1, count // 10)
            axes.plot(
                xs, ys, linewidth=2, marker=look.marker, markersize=5, markevery=marker_every, **_line_style(look)
            )
            widths = [100 * (curve.estimates[x - 1].half_width or 0) for x in xs]  # type: ignore[union-attr]
            low = [y - width for y, width in zip(ys, widths, strict=True)]
            high = [y + width for y, width in zip(ys, widths, strict=True)]
            axes.fill_between(xs, low, high, color=look.colour, alpha=0.13, linewidth=0)
    if chance:
        axes.plot(
            range(start + 1, count + 1),
            [100 * value for value in chance[start:]],
            color=axes.xaxis.label.get_color(),
            linestyle=":",
            linewidth=1,
        )
    beside = 0.03 * count if count > start + 1 else 0.5
    axes.set_xlim(start + 1 - beside, count + beside)
    axes.set_ylim(lowest - 3, 103)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    _name_lines(axes, [(curve.row, curve.estimates[-1]) for curve in found], count, chance)


def _pieces(values: Sequence[float | None]) -> Iterator[tuple[list[int], list[float]]]:
    """Yield the unbroken stretches of a curve as experiences, counted from 1, and percent."""
    xs: list[int] = []
    ys: list[float] = []
    for i, value in enumerate(values):
        if value is not None:
            xs.append(i + 1)
            ys.append(100 * value)
        if xs and (value is None or i == len(values) - 1):
            yield xs, ys
            xs, ys = [], []


def _name_lines(
    axes: Axes, ends: Sequence[tuple[Row, Estimate | None]], last: int, chance: Sequence[float] | None
) -> None:
    """Write each row's name and last value beside the end of its line, apart from each other."""
    named: list[tuple[float, str, Any]] = [
        (
            100 * end.mean,
            f"{_LEFT_TO_RIGHT}{short(row.strategy, 11)}{_LEFT_TO_RIGHT} {100 * end.mean:.1f}",
            appearance(row).colour,
        )
        for row, end in ends
        if end
    ]
    if chance:
        named.append((100 * chance[-1], "guessing", axes.xaxis.label.get_color()))
    _write_beside(axes, [(last, height, text, colour) for height, text, colour in named])


def _write_beside(axes: Axes, labels: Sequence[tuple[float, float, str, Any]]) -> None:
    """Write labels beside the axes, apart from each other, each with a line to the point x, y that it names."""
    low, high = axes.get_ylim()
    gap = min(_LABEL_GAP, 0.98 / max(1, len(labels))) * (high - low)
    heights = spread([y for _, y, _, _ in labels], gap, low, high)
    for (x, y, text, colour), height in zip(labels, heights, strict=True):
        axes.annotate(
            text,
            xy=(x, y),
            xytext=(1.05, height),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 4,
                **_AT_THE_LEFT,
            },
        )


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return heights as near as can be to `values` that are `gap` apart and, if they fit, within `low` and `high`.

    The least squares solution: neighbours that would overlap are pooled into a block around their mean.
    """
    order = sorted(range(len(values)), key=lambda position: (values[position], position))
    blocks: list[list[float]] = []  # [sum of (value - rank·gap), members]
    for rank, position in enumerate(order):
        blocks.append([values[position] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, members = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += members
    starts = [total / members for total, members in blocks for _ in range(int(members))]
    ceiling = max(low, high - (len(values) - 1) * gap)
    result = [0.0] * len(values)
    for rank, position in enumerate(order):
        result[position] = min(max(starts[rank], low), ceiling) + rank * gap
    return result


def _matrix_panel(title: str, means: Sequence[Sequence[float | None]]) -> Panel:
    side = min(max(1.5, 0.28 * len(means)), 3.9)
    margins = {"left": 0.5, "right": 0.75, "top": 0.32, "bottom": 0.48}
    title = short(title, 7.2 * (side + margins["right"]))  # em in the room over the axes and right of them
    width, height = side + margins["left"] + margins["right"], side + margins["top"] + margins["bottom"]
    return Panel(partial(_draw_matrix, title=title, means=means), width=width, height=height, **margins)


def _draw_matrix(axes: Axes, *, title: str, means: Sequence[Sequence[float | None]]) -> None:
    import numpy as np
    import seaborn

    cells = np.array([[np.nan if value is None else 100 * value for value in line] for line in means])
    count = len(cells)
    names = [str(i + 1) if i % (1 + count // 11) == 0 else "" for i in range(count)]
    seaborn.heatmap(
        cells,
        mask=np.isnan(cells),
        vmin=0,
        vmax=100,
        cmap="cividis",
        annot=count <= 25,  # in smaller cells the numbers would run into each other
        fmt=".0f",
        annot_kws={"size": 8 if count <= 10 else 5},
        xticklabels=names,
        yticklabels=names,
        cbar_kws={"ticks": [0, 50, 100], "pad": 0.05, "aspect": 14},
        ax=axes,
    )
    axes.set_title(title)
    axes.set(xlabel="tested on experience", ylabel="after experience")
    axes.tick_params(length=0)


def _draw_trade_off(
    axes: Axes, *, title: str, points: Sequence[tuple[Row, Sequence[tuple[float, float] | None]]]
) -> None:
    from matplotlib.lines import Line2D

    axes.set_title(title)
    axes.set(xlabel="old classes, %", ylabel="new classes, %", xlim=(-4, 104), ylim=(-4, 104))
    handles = []
    for row, ends in points:
        look = appearance(row)
        seen = [(100 * end[0], 100 * end[1]) for end in ends if end]
        if not seen:
            continue
        xs, ys = zip(*seen, strict=True)
        axes.plot(xs, ys, look.marker, color=look.colour, markersize=4, alpha=0.55, markeredgewidth=0)
        mean = (sum(xs) / len(xs), sum(ys) / len(ys))
        axes.plot(*mean, look.marker, color=look.colour, markersize=10, markeredgecolor="white", markeredgewidth=0.8)
        handles.append(
            Line2D([], [], color=look.colour, marker=look.marker, linestyle="", label=short(row.strategy, 10.5))
        )
    if handles:
        axes.legend(
            handles=handles, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=8, handlelength=1
        )
    else:
        axes.text(0.5, 0.5, "one experience: no earlier classes", ha="center", transform=axes.transAxes)


def _draw_cost(axes: Axes, *, title: str, comparison: Comparison, column: str) -> None:
    axes.set_title(title)
    axes.set_ylabel("final accuracy, %")
    axes.set_ylim(-3, 103)
    ends = []
    for row in comparison.rows:
        final, spent = row.estimates["final_accuracy"], row.estimates[column]
        if final is None or spent is None:
            continue
        look = appearance(row)
        half = None if final.half_width is None else 100 * final.half_width
        x = max(spent.mean, 0.01) if column == "seconds" else spent.mean  # a logarithm has no place for 0
        axes.errorbar(
            x,
            100 * final.mean,
            yerr=half,
            fmt=look.marker,
            color=look.colour,
            markersize=7,
            capsize=2,
            elinewidth=1,
        )
        ends.append((row, final, x))
    if column == "seconds":
        axes.set_xscale("log")
        axes.set_xlabel("seconds a run")
        _plain_log_ticks(axes, lambda value, _: f"{value:g}")
    else:
        axes.set_xscale("symlog", linthresh=1000)
        axes.set_xlabel("bytes kept")
        axes.set_xlim(left=-300, right=max([1e4, *(10 * spent for _, _, spent in ends)]))
        axes.set_xticks([0, 1e3, 1e5, 1e7, 1e9][: 2 + sum(edge < axes.get_xlim()[1] for edge in (1e5, 1e7, 1e9))])
        axes.xaxis.set_major_formatter(lambda value, _: readable_bytes(value))
        axes.minorticks_off()
    _write_beside(
        axes,
        [(x, 100 * final.mean, short(row.strategy, 12), appearance(row).colour) for row, final, x in ends],
    )


def _plain_log_ticks(axes: Axes, text: Callable[[float, float], str]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_xlim()
    low, high = low / 1.3, high * 1.3
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,), numticks=12))
    axes.xaxis.set_major_formatter(text)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw_settings(axes: Axes, *, title: str, comparison: Comparison) -> None:
    axes.set_title(title, x=-0.6)
    chance = comparison.rows[0].runs[0].result.chance
    for setting in ("class_incremental", "task_incremental"):
        axes.axvline(100 * chance[setting][-1], linestyle=":", linewidth=1, color=axes.xaxis.label.get_color())
    for height, row in enumerate(comparison.rows):
        look = appearance(row)
        ends = [row.estimates[name] for name in ("final_accuracy", "task_incremental_accuracy")]
        if ends[0] is None or ends[1] is None:
            continue
        filled, hollow = (100 * end.mean for end in ends if end)
        line = {"arrowstyle": "-", "color": look.colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 4.5}
        axes.annotate("", xy=(hollow, height), xytext=(filled, height), arrowprops=line)
        axes.plot(filled, height, look.marker, color=look.colour, markersize=6)
        axes.plot(hollow, height, look.marker, color=look.colour, markersize=9, markerfacecolor="none")
    axes.set_yticks(range(len(comparison.rows)), [short(row.strategy, 12.5) for row in comparison.rows])
    axes.set(xlim=(-3, 103), ylim=(-0.6, len(comparison.rows) - 0.4), xlabel="final accuracy, % (dotted: guessing)")
