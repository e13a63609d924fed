"""Builds the page's section on one comparison: its answer, table, and figures with their findings and numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from clbench.comparison.columns import COLUMNS, MEANINGS, SHARES, summary
from clbench.comparison.rows import Comparison, Row
from clbench.comparison.table import cells, headings
from clbench.reporting import class_findings, confusion, exports, figures, findings, imbalance_figures
from clbench.reporting.figure import Figure
from clbench.reporting.provenance import commands, method, slug
from clbench.reporting.rendering import render
from clbench.reproduction import table as published_table
from clbench.reproduction.targets import cells as cells_of
from clbench.reproduction.targets import targets
from clbench.results.stored_run import StoredRun
from clbench.results.stored_runs import Watch, unwatched
from clbench.system.output import legible

Finding = Callable[[Comparison], str]
FINDINGS: dict[str, Finding] = {
    "old-new": findings.old_and_new,
    "each": findings.each_alone,
    "within": findings.within,
    "seen": findings.seen,
    "matrices": findings.matrices,
    "forgetting": findings.forgetting,
    "stability-plasticity": findings.stability_and_plasticity,
    "per-domain": class_findings.per_domain,
    "per-class": class_findings.per_class,
    "imbalance": imbalance_figures.finding,
    "errors": findings.errors,
    "confusion": confusion.finding,
    "cost": findings.cost,
    "settings": findings.settings,
}

_EXPORTS = {
    ".csv": exports.as_csv,
    ".md": exports.as_markdown,
    ".tex": exports.as_latex,
    "-short.tex": exports.as_short_latex,
}
"""Functions that export the table, by the end of the file name."""


@dataclass(frozen=True)
class ShownFigure:
    """A drawn figure with its finding."""

    figure: Figure
    finding: str
    svgs: tuple[str, ...]
    file: str
    """Path of its files within the report, without the ending."""

    of: str
    """The title of the comparison that it shows."""

    @property
    def anchor(self) -> str:
        """The anchor of the figure on the page."""
        return self.file.removeprefix("figures/").replace("/", "--")


def show(figure: Figure, anchor: str, of: str, finding: str) -> tuple[ShownFigure, dict[str, bytes]]:
    """Draw a figure, and return it with its files by their path within the report."""
    shown = ShownFigure(figure, finding, (), f"figures/{anchor}-{figure.key}", of)
    drawn = render(
        [panel for _, panel in figure.panels],
        shown.anchor,
        f"{figure.title}: {of}",
        [(f"{figure.title}. {title}", finding) for title, _ in figure.panels],
    )
    written = {f"{shown.file}.{ending}": content for ending, content in drawn.files.items()}
    if figure.csv:
        written[f"{shown.file}.csv"] = figure.csv.encode(errors="replace")
    return replace(shown, svgs=drawn.panels), written


@dataclass(frozen=True)
class Cell:
    """A cell of the table: its text, and what the column is sorted by."""

    text: str
    value: float | str | None = None


@dataclass(frozen=True)
class TableRow:
    """A row of the table: the strategy with its variant, and a cell for each other column."""

    row: Row
    variant: str
    anchor: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """The section of the page on one comparison."""

    anchor: str
    label: str
    """The shortest name that no other section has: the scenario, with its recipe, or the whole title."""

    comparison: Comparison
    answer: str
    headings: tuple[str, ...]
    meanings: tuple[str, ...]
    """What each heading means."""

    table: tuple[TableRow, ...]
    figures: tuple[ShownFigure, ...]
    commands: tuple[str, ...]

    @property
    def lead(self) -> tuple[ShownFigure, ...]:
        """The figure of old and new classes, which comes before the table."""
        return tuple(shown for shown in self.figures if shown.figure.key == "old-new")

    @property
    def further(self) -> tuple[ShownFigure, ...]:
        """All other figures, which come after it."""
        return tuple(shown for shown in self.figures if shown.figure.key != "old-new")


def sections(comparisons: Sequence[Comparison], watch: Watch = unwatched) -> tuple[list[Section], dict[str, bytes]]:
    """Return the sections of the page, and the files that belong to them by their path within the report."""
    made: list[Section] = []
    written: dict[str, bytes] = {}
    anchors = _anchors(comparisons)
    shown: dict[str, list[ShownFigure]] = {anchor: [] for anchor in anchors}
    each = [
        (anchor, comparison, figure)
        for anchor, comparison in zip(anchors, comparisons, strict=True)
        for figure in figures.all_figures(comparison)
    ]
    for anchor, comparison, figure in watch(each, "drawing figures"):
        finding = f"{FINDINGS[figure.key](comparison)} {figure.note}".strip()
        drawn, files = show(figure, anchor, comparison.title, finding)
        shown[anchor].append(drawn)
        written |= files
    for anchor, label, comparison in zip(anchors, _labels(comparisons), comparisons, strict=True):
        for ending, export in _EXPORTS.items():
            written[f"tables/{anchor}{ending}"] = export(comparison).encode(errors="replace")
        made.append(_section(anchor, label, comparison, shown[anchor]))
    return made, written


def _anchors(comparisons: Sequence[Comparison]) -> list[str]:
    """Return a name for each, from scenario, recipe and distinction, with a number if these are not unique."""
    names = [
        "-".join(slug(part) for part in (f"{each.scenario}-{each.spec.recipe.name}", each.distinction) if part)
        for each in comparisons
    ]
    return [
        name if names.count(name) == 1 else f"{name}--{names[: position + 1].count(name)}"
        for position, name in enumerate(names)
    ]


def _labels(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the shortest unique name of each."""
    names = []
    for each in comparisons:
        named = f"{each.scenario} · {legible(each.spec.recipe.name)}"
        names.append((each.scenario, named, f"{named} · {each.distinction}" if each.distinction else named, each.title))
    taken = [[name[length] for name in names] for length in range(4)]
    return [
        next((text for text, others in zip(name, taken, strict=True) if others.count(text) == 1), name[-1])
        for name in names
    ]


def _section(anchor: str, label: str, comparison: Comparison, shown: Sequence[ShownFigure]) -> Section:
    columns = headings(comparison)
    rows = []
    for row in comparison.rows:
        texts = cells(row, columns)
        described = method(row)
        sortable = tuple(Cell(text, _sorts_by(row, column)) for column, text in texts.items() if column != "strategy")
        rows.append(TableRow(row, described.variant, described.anchor, sortable))
    return Section(
        anchor,
        label,
        comparison,
        findings.answer(comparison),
        tuple(columns.values()),
        tuple(MEANINGS[column] for column in columns),
        tuple(rows),
        tuple(shown),
        tuple(commands(comparison)),
    )


def _sorts_by(row: Row, column: str) -> float | str | None:
    """Return what the table is sorted by in a column; None if the row has no value there."""
    if column in COLUMNS or column == "intransigence":
        made = row.estimates[column] if column in COLUMNS else row.intransigence
        return made.mean if made else None
    if column in ("to_lower", "p_holm"):
        if row.to_lower is None:
            return None
        return row.to_lower.estimate.mean if column == "to_lower" else row.to_lower.p_holm
    return len(row.seeds) if column == "n" else {"tuned": row.tuned, "audit": row.audit}[column]


# -- published numbers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """A published table next to what the runs measured."""

    protocol: str
    source: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    answered: int
    """Number of cells in `rows` for which there are runs."""

    judged: int
    """Number of answered cells whose published number is verified."""

    agreeing: int


def published(runs: Sequence[StoredRun]) -> list[Published]:
    """Return each published table that has at least one cell answered by these runs."""
    found = []
    for protocol in sorted({target.protocol for target in targets()}):
        cells_found = cells_of(targets(protocol), runs)
        answered = [cell for cell in cells_found if cell.values]
        if answered:
            judged = sum(cell.judged for cell in answered)
            agreeing = sum(cell.agrees is True for cell in answered)
            rows = tuple(published_table.rows(cells_found))
            source = cells_found[0].target.source
            found.append(Published(protocol, source, published_table.HEADINGS, rows, len(answered), judged, agreeing))
    return found


# -- every run ------------------------------------------------------------------------------------------------------


RUNS_IN_PAGE = 200
"""If there are more runs, the page does not list them."""


def run_table(comparisons: Iterable[Comparison]) -> tuple[list[str], list[list[Any]]]:
    """Return every run of the comparisons as a row of values, with headings; a column that no run has is left out."""
    found = [(comparison, row, run) for comparison in comparisons for row in comparison.rows for run in row.runs]
    values = [summary(run) for _, _, run in found]
    columns = [column for column in COLUMNS if any(each[column] is not None for each in values)]
    rows = []
    for (comparison, row, run), own in zip(found, values, strict=True):
        order = " ".join(map(str, run.spec.scenario.class_order))
        shown = [own[column] for column in columns]
        rows.append([comparison.scenario, row.strategy, run.spec.seeds.run, *shown, order, run.run_id[:16]])
    return ["scenario", "strategy", "seed", *(COLUMNS[column] for column in columns), "class order", "run id"], rows


def run_texts(headings: Sequence[str], row: Sequence[Any]) -> list[str]:
    """Return a row of the table of runs as displayed, shares in percent."""
    scenario, strategy, seed, *values, order, identity = row
    shares = {COLUMNS[column] for column in SHARES}
    texts = [
        "–"
        if value is None
        else f"{100 * value:.2f}"
        if heading in shares
        else f"{value:,.1f}"
        if heading == COLUMNS["seconds"]
        else f"{value:,.0f}"
        for heading, value in zip(headings[3:-2], values, strict=True)
    ]
    return [scenario, strategy, str(seed), *texts, order, identity]
