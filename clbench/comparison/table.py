"""A comparison as a table for people, and as rows for programs."""

from __future__ import annotations

import html
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from clbench.comparison.columns import COLUMNS, SHARES, lowest, percent
from clbench.comparison.rows import Comparison, Row, lower_reference
from clbench.comparison.statistics import Difference, Estimate
from clbench.system.tables import print_table, readable_bytes

IMBALANCED = 1.5
"""Macro accuracy is shown if the largest test class has at least this many times the samples of the smallest."""

UNEQUAL = 2
"""It is also shown if the most frequent class has more than this many times the training images of the rarest."""


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the table of a comparison with its warnings and notes."""
    columns = headings(comparison)
    rows = [list(cells(row, columns).values()) for row in comparison.rows]
    print_table(console, comparison.title, list(columns.values()), rows, numbers=range(1, len(columns)))
    console.print()
    console.print(Text(_what_numbers_are(comparison)))
    for warning in comparison.warnings:
        console.print(Text(warning, style="bold"))
    for note in comparison.notes:
        console.print(Text(note))


def _what_numbers_are(comparison: Comparison) -> str:
    several = any(len(row.seeds) > 1 for row in comparison.rows)
    interval = "Means with 95 % t-intervals over the seeds." if several else "One seed: no interval."
    return f"Accuracies in percent, of the classes seen after the last experience. {interval}"


def as_html(comparison: Comparison) -> str:
    """Return the comparison for a notebook: its table, warnings and notes."""
    columns = headings(comparison)
    head = "".join(f"<th>{html.escape(text)}</th>" for text in columns.values())
    rows = [
        "".join(_html_cell(text, first=key == "strategy") for key, text in cells(row, columns).items())
        for row in comparison.rows
    ]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    told = (_what_numbers_are(comparison), *comparison.warnings, *comparison.notes)
    said = "".join(f"<li>{html.escape(text)}</li>" for text in told)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<p><b>{html.escape(comparison.title)}</b></p><div style="overflow-x: auto">{table}</div><ul>{said}</ul>'


def _html_cell(text: str, first: bool) -> str:
    align = "left" if first else "right"
    return f'<td style="white-space: nowrap; text-align: {align}">{html.escape(text)}</td>'


def headings(comparison: Comparison) -> dict[str, str]:
    """Return the table's columns, name to heading.

    Columns that are undefined in every row are left out, and so is macro accuracy if classes are nearly of the same
    size, since it then repeats the final accuracy.
    """
    defined = {key: text for key, text in COLUMNS.items() if any(row.estimates[key] for row in comparison.rows)}
    if comparison.imbalance < IMBALANCED and comparison.training_imbalance <= UNEQUAL:
        defined.pop("final_accuracy_macro", None)
    columns = {"strategy": "strategy"}
    for key, text in defined.items():
        columns[key] = text
        if key == "forgetting" and any(row.intransigence for row in comparison.rows):
            columns["intransigence"] = "intransigence"
    lower = lower_reference(comparison.rows)
    if lower and any(row.to_lower for row in comparison.rows):
        columns["to_lower"] = f"Δ vs {lower.strategy}"
        if any(row.to_lower and row.to_lower.p_holm is not None for row in comparison.rows):
            columns["p_holm"] = "p (Holm)"
    return {**columns, "tuned": "tuned", "audit": "audit", "n": "n"}


def cells(row: Row, columns: dict[str, str]) -> dict[str, str]:
    """Return the row's text in each of the columns of `headings`."""
    made = {"strategy": row.title, "tuned": row.tuned, "audit": row.audit, "n": str(len(row.seeds))}
    for column in COLUMNS:
        made[column] = text_of(row.estimates[column], column)
    mark = {"best": " best", "tied": " ≈"}.get(row.standing or "", "")
    made["final_accuracy"] += mark
    made["intransigence"] = percent(row.intransigence, lowest("intransigence"))
    made["to_lower"] = difference_text(row.to_lower)
    p = row.to_lower.p_holm if row.to_lower else None
    made["p_holm"] = "–" if p is None else f"{p:.2g}"
    return {column: made[column] for column in columns}


def text_of(value: Estimate | None, column: str) -> str:
    """Return an estimate as text: shares in percent, with their interval."""
    if value is None:
        return "–"
    if column in SHARES:
        return percent(value, lowest(column))
    if column == "seconds":
        return f"{value.mean:.1f}"
    return readable_bytes(value.mean) if column == "stored_bytes" else f"{value.mean:,.0f}"


def difference_text(difference: Difference | None) -> str:
    """Return a difference in percentage points with its sign and interval: `+31.9 ±25.1`."""
    return percent(difference.estimate if difference else None, -1.0, "+.1f")


def rows_for_json(comparison: Comparison) -> list[dict[str, object]]:
    """Return the rows as JSON-ready values, accuracies as shares."""

    def listed(row: Row) -> dict[str, object]:
        values = {name: asdict(value) if value else None for name, value in row.estimates.items()}
        return {
            "strategy": row.strategy,
            "reference": row.reference,
            "tuned": row.tuned,
            "audit": row.audit,
            "seeds": list(row.seeds),
            **values,
            "intransigence": asdict(row.intransigence) if row.intransigence else None,
            "standing": row.standing,
            "to_lower": asdict(row.to_lower) if row.to_lower else None,
            "to_best": asdict(row.to_best) if row.to_best else None,
            "p_best": row.p_best,
        }

    return [listed(row) for row in comparison.rows]
