"""The figure of accuracy within experiences: how far old classes drop while new ones are learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from clbench.comparison.columns import percent, uninformative
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.statistics import Estimate, estimate
from clbench.evaluation.counts import Counts
from clbench.reporting.figure import Figure
from clbench.reporting.labels import label_points, short
from clbench.reporting.rendering import Panel
from clbench.reporting.strategy_marks import appearance
from clbench.results.stored_run import StoredRun
from clbench.system.output import as_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_DRAWN = 600
"""Most points of a line in a panel. Longer lines keep only their local extremes, so that the page stays small."""


class _Point(NamedTuple):
    """One evaluation of one run."""

    share: float
    steps: int
    first: float | None
    old: float | None
    new: float | None


@dataclass(frozen=True)
class Moment:
    """An evaluation at the beginning of an experience, between its gradient steps or at its end, over all seeds."""

    experience: int
    share: float
    """Share of the experience's gradient steps that are done."""

    steps: float
    """Gradient steps since the start of the stream."""

    first: Estimate | None
    """Accuracy on the classes of the first experience."""

    old: Estimate | None
    """Accuracy on the classes of all earlier experiences."""

    new: Estimate | None
    """Accuracy on the new classes of this experience."""


@dataclass(frozen=True)
class Course:
    """A row with its moments, in order within each experience."""

    row: Row
    moments: tuple[Moment, ...]

    def of(self, experience: int) -> list[Moment]:
        """Return the moments of an experience."""
        return [each for each in self.moments if each.experience == experience]

    @property
    def by_steps(self) -> bool:
        """Whether every experience has gradient steps, so that they distinguish its moments."""
        ends = [run.facts.ends or () for run in self.row.runs]
        return all(a < b for each in ends for a, b in pairwise((0, *each)))

    def place(self, moment: Moment) -> float:
        """Return a moment's position on the axis: in gradient steps, or in experiences."""
        return moment.steps if self.by_steps else moment.experience + moment.share


def accuracy_within(comparison: Comparison, drawn: Sequence[Row]) -> Figure:
    """Accuracy between gradient steps: on the first experience for the rows `drawn` together, and for each row on old
    and on new classes."""
    courses = [course(row) for row in comparison.rows if all(run.facts.ends for run in row.runs)]
    name = "Accuracy within experiences"
    if not courses:
        return Figure("within", name, (), (), ())
    title = "Classes of the first experience"
    together = [each for each in courses if each.row in drawn]
    panels = [(title, Panel(partial(draw_first, title=title, courses=together)))] if together else []
    for each in courses:
        own = short(each.row.strategy, 15)
        draw = partial(draw_course, title=own, course=each)
        panels.append((each.row.title, Panel(draw, 3.2, 2.2, left=0.45, right=0.5, top=0.28, bottom=0.46)))
    headings = ("strategy", "experience", "old before, %", "old at least, %", "old at its end, %", "new at its end, %")
    rows = tuple(line for each in courses for line in _lines(each.row))
    note = (
        "In the panel of a strategy, old classes are solid and new ones dashed; vertical lines show where experiences "
        "begin, and the bar shows the largest drop on old classes from there, in points."
    )
    return Figure("within", name, tuple(panels), headings, rows, note, _csv(courses))


def course(row: Row) -> Course:
    """Return the moments of a row. If seeds differ in their number, those that all seeds have, and the end."""
    by_seed = [_points(run) for run in row.runs]
    moments = []
    for i, of_seeds in enumerate(zip(*by_seed, strict=True)):
        common = min(map(len, of_seeds))
        if common:
            aligned = [[*points[: common - 1], points[-1]] for points in of_seeds]
            moments += [_moment(i, at_once) for at_once in zip(*aligned, strict=True)]
    return Course(row, tuple(moments))


def _moment(experience: int, at_once: Sequence[_Point]) -> Moment:
    return Moment(
        experience,
        fmean(point.share for point in at_once),
        fmean(point.steps for point in at_once),
        estimate([point.first for point in at_once]),
        estimate([point.old for point in at_once]),
        estimate([point.new for point in at_once]),
    )


def _points(run: StoredRun) -> list[list[_Point]]:
    """Return the evaluations in each experience, from the end of the previous one to its own end, if they exist."""
    counts, curve, ends = run.counts(), run.curve(), run.facts.ends
    assert curve is not None and ends is not None
    found = []
    for i, (begin, end) in enumerate(pairwise((0, *ends))):
        before, own = counts.correct[i - 1] if i else None, counts.correct[i]
        points = [_point(counts, i, 0.0, begin, before)] if before else []
        points += [
            _point(counts, i, (step - begin) / (end - begin), step, right)
            for step, experience, right in zip(curve.steps, curve.experiences, curve.correct, strict=True)
            if experience == i
        ]
        found.append([*points, _point(counts, i, 1.0, end, own)] if own else points)
    return found


def _point(counts: Counts, i: int, share: float, steps: int, right: tuple[int, ...]) -> _Point:
    """Return the accuracies of an evaluation in experience i; the one at its beginning has none on its new classes."""
    total = counts.total
    old, new = sum(right[:i]), right[i] if len(right) > i else None
    return _Point(
        share=share,
        steps=steps,
        first=right[0] / total[0],
        old=old / sum(total[:i]) if i else None,
        new=None if new is None or not total[i] else new / total[i],
    )


def _lines(row: Row) -> list[tuple[str, ...]]:
    """Return a line for each experience: accuracy on old classes before, at least and at the end, and on new ones."""
    found = []
    for i in range(len(row.runs[0].counts().total)):
        before = [run.metric("accuracy_seen")[i - 1] if i else None for run in row.runs]
        gaps = [run.metric("stability_gaps")[i] for run in row.runs]
        least = [None if one is None or gap is None else one - gap for one, gap in zip(before, gaps, strict=True)]
        ends = [[run.metric(name)[i] for run in row.runs] for name in ("old_accuracy", "new_accuracy")]
        found.append((row.strategy, str(i + 1), *(percent(estimate(each)) for each in (before, least, *ends))))
    return found


def _csv(courses: Sequence[Course]) -> str:
    lines: list[list[object]] = [["strategy", "n", "experience", "steps"]]
    for column in ("first_experience", "old_classes", "new_classes"):
        lines[0] += [column, f"{column}_half_width"]
    for each in courses:
        for moment in each.moments:
            line: list[object] = [each.row.strategy, len(each.row.seeds), moment.experience + 1, moment.steps]
            for value in (moment.first, moment.old, moment.new):
                line += [value.mean, value.half_width] if value else [None, None]
            lines.append(line)
    return as_csv(lines)


# -- drawing ----------------------------------------------------------------------------------------------------------


def draw_first(axes: Axes, *, title: str, courses: Sequence[Course]) -> None:
    """Draw a line per row over the experiences, all equally wide regardless of their gradient steps."""
    count = max(moment.experience for each in courses for moment in each.moments) + 1
    axes.set_title(title)
    axes.set(xlim=(0, count), ylim=(-3, 103), xlabel="experiences learned", ylabel="accuracy, %")
    axes.set_xticks(range(count + 1) if count <= 10 else range(0, count + 1, -(-count // 8)))
    _boundaries(axes, range(1, count))
    ends = []
    for each in courses:
        look = appearance(each.row)
        known = [(moment.experience + moment.share, moment.first) for moment in each.moments]
        _line(axes, known, look.colour, (0, look.dash) if look.dash else "-", band=_has_bands(each))
        if last := [(x, value) for x, value in known if value]:
            x, value = last[-1]
            text = f"\u200e{short(each.row.strategy, 11)}\u200e {100 * value.mean:.1f}"
            ends.append((x, 100 * value.mean, text, look.colour))
    label_points(axes, ends)


def draw_course(axes: Axes, *, title: str, course: Course) -> None:
    """Draw one row over its gradient steps: old classes solid, new ones dashed, the largest drop on old ones a bar."""
    from matplotlib.ticker import MaxNLocator

    colour, last = appearance(course.row).colour, course.moments[-1]
    axes.set_title(title)
    unit = "gradient steps" if course.by_steps else "experiences learned"
    axes.set(xlim=(0, course.place(last)), ylim=(-3, 103), yticks=[0, 50, 100], xlabel=unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    experiences = sorted({moment.experience for moment in course.moments})
    _boundaries(axes, [course.place(course.of(i)[0]) for i in experiences if i])
    most = max(8, MOST_DRAWN // len(experiences))
    for i in experiences:
        places = [(course.place(moment), moment) for moment in course.of(i)]
        _line(axes, [(x, moment.new) for x, moment in places], colour, (0, (4, 2)), width=1.0, band=False, most=most)
        _line(axes, [(x, moment.old) for x, moment in places], colour, "-", band=_has_bands(course), most=most)
    _mark_widest_gap(axes, course)
    ends = (("old", last.old), ("new", last.new))
    label_points(axes, [(course.place(last), 100 * value.mean, word, colour) for word, value in ends if value], 0.09)


def _boundaries(axes: Axes, places: Iterable[float]) -> None:
    for place in places:
        axes.axvline(place, color=axes.xaxis.label.get_color(), linewidth=0.6, alpha=0.35)


def thinned(points: Sequence[tuple[float, Estimate]], most: int) -> list[tuple[float, Estimate]]:
    """Return at most `most` points, if that is at least four: the first, the last, and the lowest and highest of each
    stretch between them."""
    if len(points) <= most:
        return list(points)
    stretches = most // 2 - 1
    kept = {0, len(points) - 1}
    for start, end in pairwise(1 + (len(points) - 2) * each // stretches for each in range(stretches + 1)):
        within = sorted(range(start, end), key=lambda at: points[at][1].mean)
        kept |= {within[0], within[-1]}
    return [points[at] for at in sorted(kept)]


def _line(
    axes: Axes,
    known: Sequence[tuple[float, Estimate | None]],
    colour: str,
    style: Any,
    width: float = 1.6,
    band: bool = True,
    most: int = MOST_DRAWN,
) -> None:
    """Draw the defined means, and a band of their intervals, left out where they are uninformative."""
    made = thinned([(x, value) for x, value in known if value], most)
    xs = [x for x, _ in made]
    axes.plot(xs, [100 * value.mean for _, value in made], color=colour, linestyle=style, linewidth=width)
    if not band:
        return
    low, high = (
        [min(100, max(0, 100 * (value.mean + sign * (value.half_width or 0)))) for _, value in made] for sign in (-1, 1)
    )
    told = [not uninformative(value) for _, value in made]
    axes.fill_between(xs, low, high, where=told, color=colour, alpha=0.15, linewidth=0)


def _has_bands(course: Course) -> bool:
    return len(course.row.seeds) > 2  # with two, bands of 12.7 standard errors would hide all lines


def _mark_widest_gap(axes: Axes, course: Course) -> None:
    """Draw a bar from the old classes' accuracy at the beginning of an experience down to its lowest there."""
    of_seeds = [run.metric("stability_gaps") for run in course.row.runs]
    gaps = [estimate(values) for values in zip(*of_seeds, strict=True)]
    # A drop of less than a point is invisible, and its number would be 0.
    known = [(gap.mean, i) for i, gap in enumerate(gaps) if gap and gap.mean >= 0.01]
    if not known:
        return
    widest, i = max(known)
    moments = [(moment.old.mean, course.place(moment)) for moment in course.of(i) if moment.old]
    colour, (level, begin), (least, x) = axes.xaxis.label.get_color(), moments[0], min(moments)
    axes.plot([begin, x], [100 * level] * 2, color=colour, linestyle=":", linewidth=0.9)
    arrow = {"arrowstyle": "|-|,widthA=0.2,widthB=0.2", "color": colour, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(x, 100 * least), xytext=(x, 100 * level), arrowprops=arrow)
    axes.annotate(
        f"−{100 * widest:.0f}",
        xy=(x, 100 * (0.7 * level + 0.3 * least)),
        xytext=(3 if x < 0.85 * axes.get_xlim()[1] else -3, 0),
        textcoords="offset points",
        va="center",
        ha="left" if x < 0.85 * axes.get_xlim()[1] else "right",
        fontsize=8,
    )
