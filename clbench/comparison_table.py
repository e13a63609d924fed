"""A comparison as a table for people, and as rows for programs."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from clbench.comparison import COLUMNS, SHARES, Comparison, Estimate, Row
from clbench.tables import print_table, readable_bytes


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the table of a comparison with its notes."""
    several = any(len(row.seeds) > 1 for row in comparison.rows)
    shown = [column for column in COLUMNS if any(row.estimates[column] for row in comparison.rows)]
    headings = ["strategy", *(COLUMNS[column] for column in shown), "n"]
    rows = [
        [row.strategy, *(_cell(row.estimates[column], column) for column in shown), str(len(row.seeds))]
        for row in comparison.rows
    ]
    print_table(console, comparison.title, headings, rows, numbers=range(1, len(headings)))
    interval = "Means with 95 % t-intervals over the seeds." if several else "One seed: no interval."
    console.print(Text(f"Accuracies in percent, of the classes seen after the last experience. {interval}"))
    for note in comparison.notes:
        console.print(Text(note))


def _cell(value: Estimate | None, column: str) -> str:
    if value is None:
        return "–"
    if column in SHARES:
        interval = "" if value.half_width is None else f" ±{100 * value.half_width:.1f}"
        return f"{100 * value.mean:.1f}{interval}"
    if column == "seconds":
        return f"{value.mean:.1f}"
    return readable_bytes(value.mean) if column == "stored_bytes" else f"{value.mean:,.0f}"


def rows_for_json(comparison: Comparison) -> list[dict[str, object]]:
    """Return the rows as JSON-ready values, accuracies as shares."""

    def listed(row: Row) -> dict[str, object]:
        values = {name: vars(value) if value else None for name, value in row.estimates.items()}
        return {"strategy": row.strategy, "seeds": list(row.seeds), **values}

    return [listed(row) for row in comparison.rows]
