"""Comparisons and lists as tables, for a terminal or as plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clbench.comparison import COLUMNS, SHARES, Comparison, Estimate, Row


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the table of a comparison with its notes."""
    seeds = comparison.rows[0].seeds
    several = len({row.seeds for row in comparison.rows}) == 1 and len(seeds) > 1
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


def readable_bytes(count: float) -> str:
    """Return a number of bytes with its unit: `1.9 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def print_table(
    console: Console, title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> None:
    """Print rows under headings; the columns in `numbers` are aligned right. Nothing in a cell is taken for markup."""
    right = set(numbers)
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, heading in enumerate(headings):
        table.add_column(heading, justify="right" if position in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def rows_for_json(comparison: Comparison) -> list[dict[str, object]]:
    """Return the rows as JSON-ready values, accuracies as shares."""

    def listed(row: Row) -> dict[str, object]:
        values = {name: vars(value) if value else None for name, value in row.estimates.items()}
        return {"strategy": row.strategy, "seeds": list(row.seeds), **values}

    return [listed(row) for row in comparison.rows]
