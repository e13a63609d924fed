"""Tables and text for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def readable_bytes(count: float) -> str:
    """Return a number of bytes with its unit: `1.9 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def legible(text: str) -> str:
    """Return a line of text with � for each control character and each change of text direction."""
    return "".join("�" if _is_control(character) else character for character in text)


def _is_control(character: str) -> bool:
    directions = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in directions


def listed(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def print_table(
    console: Console, title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> None:
    """Print rows under headings; the columns in `numbers` are aligned right. Cells are not parsed as markup."""
    right = set(numbers)
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for position, heading in enumerate(headings):
        table.add_column(Text(heading), justify="right" if position in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
