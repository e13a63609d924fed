"""Defines the content of the report page, and renders it as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clbench.reporting.document import fill
from clbench.reporting.provenance import Method
from clbench.reporting.scenarios import ShownAcross
from clbench.reporting.sections import Published, Section


@dataclass(frozen=True)
class Content:
    """Everything on the page."""

    sections: Sequence[Section]
    across: Sequence[ShownAcross]
    alerts: Sequence[str]
    """Anything that failed, or is missing, damaged or unequal."""

    facts: Sequence[str]
    """Dates, versions, device and seeds, in a few words each."""

    published: Sequence[Published]
    methods: Sequence[Method]
    surroundings: Sequence[tuple[str, str]]
    remedies: bool
    """Whether any of the runs uses a remedy against forgetting."""

    downloads: bool
    """Whether figures, tables and sources are files next to the page, which it then links to."""

    compared: int
    """How many runs are compared."""

    run_headings: Sequence[str]
    run_rows: Sequence[Sequence[str]]
    """One row per run; none if there are too many for a page: they are then in tables/runs.csv."""


def render(content: Content) -> str:
    """Return the page."""
    return fill("page.html.j2", content=content)
