"""Makes text from outside harmless where it is printed or written: no terminal or spreadsheet obeys it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO


def legible(text: str) -> str:
    """Return a line of text with � for each control character and each change of text direction."""
    if text.isprintable():  # no character of it is a control
        return text
    return "".join("�" if _is_control(character) else character for character in text)


def one_line(text: str, most: int = 2000) -> str:
    """Return a text as one legible line, of at most `most` characters."""
    line = legible(" ".join(text[:most].split()))
    return line if len(text) <= most else f"{line[: most - 1]}…"


def say(text: object = "", stream: TextIO | None = None) -> None:
    """Print a text, on standard output by default, legible line by line.

    On a terminal a line that is too long is broken between words, unless it is laid out in columns or indented.
    """
    stream = stream or sys.stdout
    lines = [legible(line) for line in str(text).expandtabs().split("\n")]
    if stream.isatty():
        fill = _filling(shutil.get_terminal_size().columns)
        lines = [line if _is_laid_out(line) else fill.fill(line) for line in lines]
    print("\n".join(lines), file=stream)


def _filling(width: int, indent: str = "", hanging: str = "") -> textwrap.TextWrapper:
    """Return a wrapper that breaks lines between words; paths and commands stay whole."""
    return textwrap.TextWrapper(
        width,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def unwrapped(text: str) -> str:
    """Return a docstring with each paragraph as one line.

    Lines that are indented or have columns stay as they are, and `Word: …` begins a line.
    """
    lines = [""]
    for line in text.splitlines():
        before = lines[-1]
        if before and line and not (_is_laid_out(before) or _is_laid_out(line) or re.match(r"\w+: ", line)):
            lines[-1] = f"{before} {line}"
        else:
            lines.append(line)
    return "\n".join(lines[1:])


def _is_laid_out(line: str) -> bool:
    return line.startswith(" ") or "  " in line


def say_prose(text: str, indent: str = "", hanging: str = "") -> None:
    """Print a docstring with its paragraphs filled to the width of the terminal, and 120 columns wide elsewhere.

    Each line begins with `indent`, and those that continue one with `hanging` too.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 120
    fill = _filling(width, indent, hanging)
    for line in unwrapped(text).split("\n"):
        say(f"{indent}{line}".rstrip() if _is_laid_out(line) or not line else fill.fill(line))


def say_json(value: Any) -> None:
    """Print a value as JSON on standard output, escaping the characters that a terminal would obey.

    All beyond ASCII are escaped too if the output's encoding may not have them.
    """
    encoding = (sys.stdout.encoding or "utf-8").lower()
    text = json.dumps(value, indent=1, ensure_ascii=not encoding.startswith("utf"))
    # Those below U+0020 are already escaped; the ones that are left are the layout.
    print("".join(f"\\u{ord(each):04x}" if each != "\n" and _is_control(each) else each for each in text))


def as_csv(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV, one per line. A text that a spreadsheet would read as a formula gets a ' in front."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([_quoted(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return buffer.getvalue()


def _quoted(text: str) -> str:
    formula = text.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return legible(f"'{text}" if formula else text)  # the csv module does not quote a \r, which begins a row


def _is_control(character: str) -> bool:
    directions = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return unicodedata.category(character) in ("Cc", "Cs") or unicodedata.bidirectional(character) in directions


def counted(count: int, one: str, many: str = "") -> str:
    """Return `1 image` or `3 images`; `many` is needed if the plural is not that with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """Return a duration in words, as exact as an estimate deserves: `90 seconds`, `14 minutes`, `3 hours`."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    whole = f"{seconds:.0f}"
    return f"{whole} second" if whole == "1" else f"{whole} seconds"
