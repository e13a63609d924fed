"""The page of the comparison: one HTML file, from what the sections say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clbench.reporting.document import fill
from clbench.reporting.provenance import Method
from clbench.reporting.scenarios import ShownAcross
from clbench.reporting.sections import Published, Section


@dataclass(frozen=True)
class Content:
    """All that the page says."""

    sections: Sequence[Section]
    across: Sequence[ShownAcross]
    alerts: Sequence[str]
    """What is failed, missing, damaged or unequal."""

    facts: Sequence[str]
    """Dates, versions, device and seeds, in a few words each."""

    published: Sequence[Published]
    methods: Sequence[Method]
    surroundings: Sequence[tuple[str, str]]
    remedies: bool
    """Whether something is done against forgetting in any of the runs."""

    downloads: bool
    """Whether figures, tables and sources lie next to the page as files, which it then links to."""

    compared: int
    """How many runs are compared."""

    run_headings: Sequence[str]
    run_rows: Sequence[Sequence[str]]
    """Each of the runs; none if they are too many for a page, and then they are in tables/runs.csv."""


def render(content: Content) -> str:
    """Return the page."""
    return fill("page.html.j2", content=content)
