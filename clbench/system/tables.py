"""Tables and text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
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


def listed(names: Sequence[str]) -> str:
    """Return `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def print_table(
    console: Console, title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> None:
    """Print rows under headings; the columns in `numbers` are aligned right, and their cells are never broken.

    If the columns do not fit, those that are left over follow in further tables, which begin with the first column too.
    Cells are not parsed as markup.
    """
    right, body = set(numbers), [list(row) for row in rows]
    widths = [_least_width(heading, [row[i] for row in body], i in right) for i, heading in enumerate(headings)]
    console.print(Text(title, style="bold"))
    if len(body) > _MANY_ROWS and (lines := _lines(headings, body, right, console.width)):
        console.print(Text(lines[0], style="bold"), overflow="ignore", no_wrap=True)
        for start in range(1, len(lines), _MANY_ROWS):
            console.out("\n".join(lines[start : start + _MANY_ROWS]), highlight=False)
        return
    for position, columns in enumerate(_divided(widths, console.width)):
        spare = console.width - sum(widths[column] + _GAP for column in columns) + _GAP
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            if column not in right:
                table.add_column(Text(headings[column]), overflow="fold")
                continue
            wider = min(max(spare, 0), max(cell_len(headings[column]) - widths[column], 0))
            spare -= wider
            table.add_column(Text(headings[column]), justify="right", width=widths[column] + wider)
        for row in body:
            table.add_row(*(Text(row[column]) for column in columns))
        if position:
            console.print()
        console.print(table)


_MANY_ROWS = 500
"""With more rows, each is written as a plain line, since rich takes milliseconds for a row."""


def _lines(headings: Sequence[str], rows: Sequence[Sequence[str]], right: set[int], width: int) -> list[str]:
    """Return headings and rows as rich lays them out, if no cell has to be wrapped for it; otherwise nothing."""
    lines = [headings, *rows]
    lengths = [[cell_len(cell) for cell in line] for line in lines]
    widths = [max(column) for column in zip(*lengths, strict=True)]
    if sum(widths) + _GAP * (len(widths) - 1) > width or any("\n" in cell for line in lines for cell in line):
        return []

    def padded(column: int, cell: str, length: int) -> str:
        space = " " * (widths[column] - length)
        return f"{space}{cell}" if column in right else f"{cell}{space}"

    return [
        (" " * _GAP).join(map(padded, range(len(line)), line, own)) for line, own in zip(lines, lengths, strict=True)
    ]


_TEXT_WIDTH = 16
"""Width below which a column of text is not squeezed, if its cells are that long."""

_GAP = 2


def _least_width(heading: str, cells: Sequence[str], number: bool) -> int:
    """Return the least width at which a column can be read: numbers stay whole, text may be wrapped."""
    words = max((cell_len(word) for word in heading.split()), default=0)
    if number:
        return max([words, *map(cell_len, cells)])
    longest_words = [cell_len(word) for cell in cells for word in cell.split()]
    widest = max(map(cell_len, cells), default=0)
    return max(words, min(widest, max([_TEXT_WIDTH, *longest_words])))


def _divided(widths: Sequence[int], width: int) -> list[list[int]]:
    """Return the columns of each table, so that each fits into `width` if possible."""
    tables = [[0]]
    used = widths[0]
    for column in range(1, len(widths)):
        if used + _GAP + widths[column] > width and len(tables[-1]) > 1:
            tables.append([0])
            used = widths[0]
        tables[-1].append(column)
        used += _GAP + widths[column]
    return tables
