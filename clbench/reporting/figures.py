"""Builds the figures of a comparison: each as panels to draw, with its numbers as a table.

Values are shares in [0, 1], shown in percent. Experiences are counted from 1, as the number of experiences learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from clbench.comparison.columns import percent
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.statistics import estimate
from clbench.reporting.class_figures import per_class, per_domain
from clbench.reporting.confusion import confusion
from clbench.reporting.drawing import (
    SINGLE_SEEDS,
    Curve,
    draw_cost,
    draw_curves,
    draw_old_and_new,
    draw_settings,
    draw_trade_off,
)
from clbench.reporting.figure import Figure
from clbench.reporting.heatmaps import draw_matrix
from clbench.reporting.imbalance_figures import imbalance
from clbench.reporting.labels import short
from clbench.reporting.rendering import Panel
from clbench.reporting.within_figures import accuracy_within
from clbench.results.stored_run import StoredRun
from clbench.system.tables import readable_bytes

LEGIBLE = 8
"""Most lines in one panel that can be told apart; of more rows the references and the best remedies are drawn."""


def curves(comparison: Comparison, values: Callable[[StoredRun], Sequence[float | None]]) -> list[Curve]:
    """Return a curve per row: what `values` returns for each of its runs, a value per experience."""
    found = []
    for row in comparison.rows:
        seeds = tuple(tuple(values(run)) for run in row.runs)
        found.append(Curve(row, tuple(estimate(column) for column in zip(*seeds, strict=True)), seeds))
    return found


def drawn(comparison: Comparison) -> list[Row]:
    """Return the rows that are drawn if all share a panel: all, or the references and the best remedies."""
    if len(comparison.rows) <= LEGIBLE:
        return comparison.rows
    references = [row for row in comparison.rows if row.reference]
    remedies = [row for row in comparison.rows if not row.reference]
    kept = [*references, *remedies[-max(1, LEGIBLE - len(references)) :]]
    return [row for row in comparison.rows if row in kept]


def _shown(comparison: Comparison, found: Sequence[Curve]) -> tuple[list[Curve], str]:
    """Return the curves that are drawn, with a note if some are left out."""
    rows = drawn(comparison)
    if len(rows) == len(comparison.rows):
        return list(found), ""
    said = (
        f"Only {len(rows)} of {len(comparison.rows)} strategies are drawn: the references and those that end highest."
    )
    return [curve for curve in found if curve.row in rows], said


def metric(name: str) -> Callable[[StoredRun], Sequence[float | None]]:
    """Return the reader of a metric, in the setting of the run."""
    return lambda run: run.metric(name)


def experiences(comparison: Comparison) -> int:
    """Return how many experiences the stream has."""
    return len(comparison.spec.scenario.classes_per_experience)


def without_classes(comparison: Comparison) -> list[int]:
    """Return the experiences, counted from 0, without new classes: old ones return, or more images of them come."""
    return [i for i, size in enumerate(comparison.spec.scenario.classes_per_experience) if not size]


def chance_after(comparison: Comparison) -> Sequence[float]:
    """Return the chance level among the classes seen, after every experience."""
    return comparison.rows[0].runs[0].facts.chance[comparison.spec.scenario.setting]


def all_figures(comparison: Comparison) -> list[Figure]:
    """Return every figure of a comparison that has something to show, in the order of the report."""
    own = [old_and_new, within, seen, matrices, forgetting, stability_and_plasticity, per_domain, per_class, imbalance]
    own += [errors, confusion, cost] if comparison.spec.scenario.setting == "class_incremental" else [cost]
    if len(comparison.spec.scenario.readings) > 1:
        own.append(settings)
    if len(comparison.rows) > LEGIBLE:
        own.insert(1, each_alone)
    return [figure for draw in own if (figure := draw(comparison)).panels]


_BANDS = (
    "Thick lines are means and thin ones single seeds; bands are 95 % intervals, left out where they are uninformative."
)
_TWO_SEEDS = (
    "Thick lines are means and thin ones the two seeds. A 95 % interval from two seeds is 12.7 standard errors to "
    "either side: it is given in the table, and no band is drawn."
)
_MANY_BANDS = "Lines are means over the seeds; bands are 95 % intervals, left out where they are uninformative."


def _bands(comparison: Comparison) -> str:
    """Return what lines and bands are; nothing for one seed."""
    if len(comparison.seeds) <= 1:
        return ""
    if len(comparison.seeds) == 2:
        return _TWO_SEEDS
    return _BANDS if len(comparison.seeds) <= SINGLE_SEEDS else _MANY_BANDS


def old_and_new(comparison: Comparison) -> Figure:
    """Accuracy on classes of earlier experiences, and on those just learned, after every experience."""
    old, new = (curves(comparison, metric(name)) for name in ("old_accuracy", "new_accuracy"))
    chance = chance_after(comparison)
    titles = ("Old classes: those of earlier experiences", "New classes: those just learned")
    panels = tuple(
        (
            title,
            Panel(
                partial(
                    draw_curves,
                    title=title,
                    found=_shown(comparison, found)[0],
                    start=start,
                    chance=chance,
                    without=without,
                )
            ),
        )
        for title, found, start, without in zip(
            titles, (old, new), (1, 0), ((), without_classes(comparison)), strict=True
        )
    )
    rows = tuple(
        (before.row.strategy, str(i + 1), percent(before.estimates[i]), percent(after.estimates[i]))
        for before, after in zip(old, new, strict=True)
        for i in range(experiences(comparison))
    )
    headings = ("strategy", "experiences learned", "old classes, %", "new classes, %")
    note = f"{_bands(comparison)} {_shown(comparison, old)[1]}".strip()
    return Figure("old-new", "Old-class and new-class accuracy", panels, headings, rows, note)


def within(comparison: Comparison) -> Figure:
    """Accuracy within experiences, of runs that were evaluated between gradient steps."""
    return accuracy_within(comparison, drawn(comparison))


def each_alone(comparison: Comparison) -> Figure:
    """Old-class and new-class accuracy again, in small panels, one for each strategy."""
    old, new = (curves(comparison, metric(name)) for name in ("old_accuracy", "new_accuracy"))
    panels = []
    for before, after in zip(old, new, strict=True):
        title = short(before.row.strategy, 11)
        draw = partial(draw_old_and_new, title=title, old=before, new=after, chance=chance_after(comparison))
        panels.append((before.row.title, Panel(draw, 2.1, 1.7, left=0.4, right=0.1, top=0.28, bottom=0.3)))
    rows = tuple(
        (row.strategy, percent(row.estimates["old_accuracy"]), percent(row.estimates["new_accuracy"]))
        for row in comparison.rows
    )
    headings = ("strategy", "old classes, %", "new classes, %")
    return Figure("each", "Old and new classes, each strategy alone", tuple(panels), headings, rows)


def matrices(comparison: Comparison) -> Figure:
    """A heatmap per strategy: accuracy on experience j's test data after experience i."""
    names = comparison.experience_names
    panels, rows = [], []
    for row in comparison.rows:
        means = mean_matrix(row)
        panels.append((row.title, _matrix_panel(row.title, means, names)))
        for name, line in zip(names, means, strict=True):
            texts = ["" if value is None else f"{100 * value:.1f}" for value in line]
            rows.append((row.strategy, name, *texts))
    headings = ("strategy", "after", *(f"on {name}" for name in names))
    return Figure("matrices", "Accuracy matrices", tuple(panels), headings, tuple(rows))


def seen(comparison: Comparison) -> Figure:
    """Accuracy over all classes seen so far, after every experience."""
    title = "Accuracy over all classes seen"
    found = curves(comparison, metric("accuracy_seen"))
    guessing = chance_after(comparison)
    few, note = _shown(comparison, found)
    panel = Panel(partial(draw_curves, title=title, found=few, start=0, chance=guessing))
    return Figure("seen", title, ((title, panel),), *_curve_table(found, "all classes seen, %", 0), note)


def forgetting(comparison: Comparison) -> Figure:
    """Forgetting after every experience."""
    title = "Forgetting: best earlier accuracy minus the current one"
    found = curves(comparison, metric("forgetting_after"))
    few, note = _shown(comparison, found)
    panel = Panel(partial(draw_curves, title=title, found=few, start=1, label="forgetting, points"))
    return Figure(
        "forgetting", "Forgetting", ((title, panel),), *_curve_table(found, "forgetting, points", 1, -1.0), note
    )


def errors(comparison: Comparison) -> Figure:
    """Share of the old classes' test samples that are predicted as one of the newest classes."""
    title = "Old-class samples predicted as the newest classes"
    found = curves(comparison, metric("recency_bias"))
    few, note = _shown(comparison, found)
    without, label = without_classes(comparison), "share of old-class samples, %"
    panel = Panel(partial(draw_curves, title=title, found=few, start=1, label=label, without=without))
    return Figure(
        "errors", "Where the errors go", ((title, panel),), *_curve_table(found, "taken for newest, %", 1), note
    )


def stability_and_plasticity(comparison: Comparison) -> Figure:
    """Old-class against new-class accuracy after the last experience, if that has new classes."""
    name = "Stability against plasticity"
    if not comparison.spec.scenario.classes_per_experience[-1]:
        return Figure("stability-plasticity", name, (), (), ())

    def ends(run: StoredRun) -> tuple[float, float] | None:
        old, new = run.final("old_accuracy"), run.final("new_accuracy")
        return None if old is None or new is None else (old, new)

    title = "Stability (right) against plasticity (up)"
    points = [(row, [ends(run) for run in row.runs]) for row in comparison.rows]
    panel = Panel(partial(draw_trade_off, title=title, points=points), height=3.6)
    rows = tuple(
        (row.strategy, percent(row.estimates["old_accuracy"]), percent(row.estimates["new_accuracy"]))
        for row in comparison.rows
    )
    headings = ("strategy", "old classes, %", "new classes, %")
    return Figure("stability-plasticity", name, ((title, panel),), headings, rows)


def cost(comparison: Comparison) -> Figure:
    """Final accuracy against seconds, and against bytes carried from experience to experience."""
    panels = tuple(
        (title, Panel(partial(draw_cost, title=title, comparison=comparison, column=column)))
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
    """Final accuracy of the same runs without and with the experience of each sample given."""
    title = "Without (filled) and with (hollow) the sample's experience given"
    height = 0.9 + 0.27 * len(comparison.rows)
    draw = partial(draw_settings, title=title, comparison=comparison)
    panel = Panel(draw, height=height, left=1.75, right=0.3)
    rows = tuple(
        (row.strategy, percent(row.estimates["final_accuracy"]), percent(row.estimates["task_incremental_accuracy"]))
        for row in comparison.rows
    )
    headings = ("strategy", "class-incremental, %", "task-incremental, %")
    return Figure("settings", "Class-incremental and task-incremental accuracy", ((title, panel),), headings, rows)


def mean_matrix(row: Row) -> list[list[float | None]]:
    """Return the mean over seeds of R[i][j], E×E; None above the diagonal and where nothing was evaluated."""
    stacked = [run.metric("accuracy_matrix") for run in row.runs]
    made = [[estimate(cell) for cell in zip(*lines, strict=True)] for lines in zip(*stacked, strict=True)]
    return [[cell.mean if cell else None for cell in line] for line in made]


def _curve_table(
    found: Sequence[Curve], value: str, start: int, low: float = 0.0
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    rows = [
        (curve.row.strategy, str(i + 1), percent(curve.estimates[i], low))
        for curve in found
        for i in range(start, len(curve.estimates))
    ]
    return ("strategy", "experiences learned", value), tuple(rows)


_NAME = 8.0
"""Room for the name of an experience next to a matrix, in em."""


def _matrix_panel(title: str, means: Sequence[Sequence[float | None]], names: Sequence[str]) -> Panel:
    side = min(max(1.5, 0.28 * len(means)), 3.9)
    names = [short(name, _NAME) for name in names]
    longer = 0.09 * max(0, max(map(len, names)) - 2)
    margins = {"left": 0.5 + longer, "right": 0.75, "top": 0.32, "bottom": 0.48 + longer}
    title = short(
        title, 7.2 * (side + margins["right"])
    )  # width, in em, of the space above and to the right of the axes
    width, height = side + margins["left"] + margins["right"], side + margins["top"] + margins["bottom"]
    return Panel(partial(draw_matrix, title=title, means=means, names=names), width=width, height=height, **margins)
