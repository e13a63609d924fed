"""A figure: the panels that are drawn, and the numbers that are in them."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.reporting.rendering import Panel


@dataclass(frozen=True)
class Figure:
    """A figure before it has words: panels to draw, and their numbers as a table."""

    key: str
    title: str
    panels: tuple[tuple[str, Panel], ...]
    """Each with the title that names it."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    note: str = ""
    """What is to be known of the drawing, as that it has some of the rows only."""

    csv: str = ""
    """The full numbers behind it, if neither the table of the comparison nor data.csv has them."""
