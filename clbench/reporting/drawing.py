"""Draws each figure on a pair of axes, in percent; experiences are counted from 1."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from clbench.base.incremental_setting import Setting
from clbench.comparison.columns import uninformative
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.statistics import Estimate
from clbench.reporting.labels import label_points, short
from clbench.reporting.strategy_marks import Appearance, appearance
from clbench.system.tables import readable_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEFT_TO_RIGHT = "\u200e"
"""Put around a name, which may be Hebrew or Arabic, it keeps the number after the name in place."""


SINGLE_SEEDS = 20
"""Up to this many seeds are drawn individually; beyond it, only the mean and its interval are."""


@dataclass(frozen=True)
class Curve:
    """A value per experience for one row: the estimate over seeds, and each seed's own; None where undefined."""

    row: Row
    estimates: tuple[Estimate | None, ...]
    seeds: tuple[tuple[float | None, ...], ...]


def _line_style(look: Appearance) -> dict[str, Any]:
    return {"color": look.colour, "linestyle": (0, look.dash) if look.dash else "-"}


def draw_curves(
    axes: Axes,
    *,
    title: str,
    found: Sequence[Curve],
    start: int,
    chance: Sequence[float] | None = None,
    label: str = "accuracy, %",
    without: Sequence[int] = (),
) -> None:
    """Draw a line per row from experience `start` on: seeds thin, if not too many, mean thick, name at the end.

    A band is the t-interval from three or more seeds. `without` are the experiences for which the value is undefined,
    since none of their classes is new.
    """
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
        for seed in curve.seeds if len(curve.seeds) <= SINGLE_SEEDS else ():
            for xs, ys in _pieces(seed):
                alone = "." if len(xs) == 1 else ""
                axes.plot(xs, ys, marker=alone, linewidth=0.6, alpha=0.45, **_line_style(look))
                lowest = min(lowest, *ys)
        for xs, ys in _pieces([each.mean if each else None for each in curve.estimates]):
            marker_every = max(1, count // 10)
            axes.plot(
                xs, ys, linewidth=2, marker=look.marker, markersize=5, markevery=marker_every, **_line_style(look)
            )
            if len(curve.seeds) <= 2:  # with two, bands of 12.7 standard errors would hide all lines
                continue
            made = [each for x in xs if (each := curve.estimates[x - 1])]
            low = [100 * (each.mean - (each.half_width or 0)) for each in made]
            high = [100 * (each.mean + (each.half_width or 0)) for each in made]
            told = [not uninformative(each) for each in made]
            axes.fill_between(xs, low, high, where=told, color=look.colour, alpha=0.13, linewidth=0)
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
    _shade(axes, without)
    ends = []
    for curve in found:
        if known := [(i + 1, each) for i, each in enumerate(curve.estimates) if each and i >= start]:
            ends.append((curve.row, *known[-1]))
    _name_lines(axes, ends, (count, chance) if chance else None)


def _shade(axes: Axes, without: Sequence[int]) -> None:
    """Shade the experiences, counted from 0, without new classes, and label the longest stretch of them."""
    starts = [i for i in without if i - 1 not in without]
    stretches = [(i, next(j for j in itertools.count(i) if j + 1 not in without)) for i in starts]
    for first, last in stretches:
        axes.axvspan(first + 0.6, last + 1.4, color=axes.xaxis.label.get_color(), alpha=0.07, linewidth=0)
    if stretches:
        first, last = max(stretches, key=lambda stretch: stretch[1] - stretch[0])
        upright = 0 if last - first > 2 else 90
        axes.text((first + last) / 2 + 1, 50, "no new class", rotation=upright, ha="center", va="center", fontsize=8)


def draw_old_and_new(axes: Axes, *, title: str, old: Curve, new: Curve, chance: Sequence[float]) -> None:
    """Draw the means of one row: old classes solid, new classes dashed, guessing dotted."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title)
    count = len(new.estimates)
    for curve, dashes in ((old, "-"), (new, (0, (4, 2)))):
        for xs, ys in _pieces([each.mean if each else None for each in curve.estimates]):
            alone = "." if len(xs) == 1 else ""
            axes.plot(xs, ys, color=appearance(curve.row).colour, linestyle=dashes, marker=alone, linewidth=1.8)
    own = axes.xaxis.label.get_color()
    axes.plot(range(1, count + 1), [100 * value for value in chance], color=own, linestyle=":", linewidth=1)
    axes.set(ylim=(-3, 103), yticks=[0, 50, 100])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))


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
    axes: Axes, ends: Sequence[tuple[Row, int, Estimate]], guessing: tuple[int, Sequence[float]] | None
) -> None:
    """Write each row's name and last value next to the end of its line, without overlaps.

    `guessing` is the last experience, and the chance level after each.
    """
    named: list[tuple[float, float, str, Any]] = [
        (
            last,
            100 * end.mean,
            f"{_LEFT_TO_RIGHT}{short(row.strategy, 11)}{_LEFT_TO_RIGHT} {100 * end.mean:.1f}",
            appearance(row).colour,
        )
        for row, last, end in ends
    ]
    if guessing:
        named.append((guessing[0], 100 * guessing[1][-1], "guessing", axes.xaxis.label.get_color()))
    label_points(axes, named)


def draw_trade_off(
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
        if len(seen) <= SINGLE_SEEDS:
            axes.plot(xs, ys, look.marker, color=look.colour, markersize=4, alpha=0.55, markeredgewidth=0)
        mean = (fmean(xs), fmean(ys))
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


def draw_cost(axes: Axes, *, title: str, comparison: Comparison, column: str) -> None:
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
        x = max(spent.mean, 0.01) if column == "seconds" else spent.mean  # 0 has no logarithm
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
    label_points(
        axes,
        [(x, 100 * final.mean, short(row.strategy, 12), appearance(row).colour) for row, final, x in ends],
    )


def _plain_log_ticks(axes: Axes, text: Callable[[float, float], str]) -> None:
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

    low, high = axes.get_xlim()
    low, high = low / 1.3, high * 1.3
    axes.set_xlim(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1.0, 2.0, 5.0) if high / low < 100 else (1.0,)
    ticks = [tick for power in decades for step in steps if low <= (tick := step * 10.0**power) <= high]
    # If the range is so narrow that at most one is left: a few at equal distances; more would overlap.
    axes.xaxis.set_major_locator(FixedLocator(ticks) if len(ticks) > 1 else MaxNLocator(4))
    axes.xaxis.set_major_formatter(text)
    axes.xaxis.set_minor_formatter(NullFormatter())


def draw_settings(
    axes: Axes,
    *,
    title: str,
    comparison: Comparison,
    columns: tuple[str, str] = ("final_accuracy", "task_incremental_accuracy"),
    readings: Sequence[Setting] = ("class_incremental", "task_incremental"),
) -> None:
    """Draw two accuracies of each row, filled and hollow, and the chance level in each of the `readings`."""
    axes.set_title(title, x=-0.6)
    chance = comparison.rows[0].runs[0].facts.chance
    for setting in readings:
        axes.axvline(100 * chance[setting][-1], linestyle=":", linewidth=1, color=axes.xaxis.label.get_color())
    for height, row in enumerate(comparison.rows):
        look = appearance(row)
        ends = [row.estimates[name] for name in columns]
        if ends[0] is None or ends[1] is None:
            continue
        filled, hollow = (100 * end.mean for end in ends if end)
        line = {"arrowstyle": "-", "color": look.colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 4.5}
        axes.annotate("", xy=(hollow, height), xytext=(filled, height), arrowprops=line)
        axes.plot(filled, height, look.marker, color=look.colour, markersize=6)
        axes.plot(hollow, height, look.marker, color=look.colour, markersize=9, markerfacecolor="none")
    axes.set_yticks(range(len(comparison.rows)), [short(row.strategy, 12.5) for row in comparison.rows])
    axes.set(xlim=(-3, 103), ylim=(-0.6, len(comparison.rows) - 0.4), xlabel="final accuracy, % (dotted: guessing)")
