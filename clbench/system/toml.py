"""Reads TOML, finds the line of a key, and writes values."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOMLDecodeError = tomllib.TOMLDecodeError
"""What `parse` raises; its text ends with the line, as in `(at line 3, column 7)`."""

Keys = Sequence[str | int]
"""Where a value is: its keys from the top, and the position in an array of tables: `("grid", 0, "seeds")`."""


def parse(text: str) -> dict[str, Any]:
    """Return the content of a TOML document. Raises TOMLDecodeError."""
    try:
        return tomllib.loads(text)
    except TOMLDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise TOMLDecodeError(f"{error} (at end of document)") from None


def line_of(text: str, keys: Keys) -> int:
    """Return the line, counted from 1, on which the document `text` first mentions `keys`, which it has.

    The parser reports no positions, so it is run several times: the key is on the line after which the document, cut
    off there, has it. A value over several lines counts as its first line.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    before, after = 0, len(lines)  # cut off here it does not have the key, and there it does
    while (cut := _cut(lines, before, after)) is not None:
        if _has(parse("\n".join(lines[:cut])), keys):
            after = cut
        else:
            before = cut
    return before + 1


def _cut(lines: Sequence[str], before: int, after: int) -> int | None:
    """Return a number of lines between two others after which the document can end, near their middle."""
    middle = (before + after) // 2
    for cut in chain(range(middle, before, -1), range(middle + 1, after)):
        try:
            parse("\n".join(lines[:cut]))
        except TOMLDecodeError:  # within a value that ends on a later line
            continue
        return cut
    return None


def _has(document: Any, keys: Keys) -> bool:
    for key in keys:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def value_text(value: Any) -> str:
    """Return a string, number, truth value, or list of them as TOML writes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    # JSON's strings are TOML's, except for one character that only TOML wants escaped.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


def key_text(keys: Sequence[str]) -> str:
    """Return a dotted key, quoted where it must be."""
    return ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else value_text(key) for key in keys)
