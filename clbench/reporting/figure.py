"""Defines a figure of a report page: its panels, and their numbers as a table."""

from __future__ import annotations

from dataclasses import dataclass

from clbench.reporting.rendering import Panel


@dataclass(frozen=True)
class Figure:
    """A figure before it has words: panels to draw, and their numbers as a table."""

    key: str
    title: str
    panels: tuple[tuple[str, Panel], ...]
    """Each panel with its title."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    note: str = ""
    """A remark on the drawing, for example that it shows only some of the rows."""

    csv: str = ""
    """The full-precision numbers, if neither the table of the comparison nor data.csv has them."""
