"""Tables for a terminal: a number is never broken, whatever the width."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from clbench.system.tables import print_table

HEADINGS = ["strategy", "final accuracy", "samples seen", "stored bytes", "seconds", "tuned"]
ROW = ["naive (lower reference)", "54.6 ±14.0 best", "120,000", "1.9 MB", "272.3", "default"]


def printed(width: int, headings: list[str], rows: list[list[str]], numbers: range) -> str:
    out = io.StringIO()
    print_table(Console(file=out, width=width), "a title", headings, rows, numbers)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_number_is_broken_and_every_column_is_there_at_any_width(width: int) -> None:
    text = printed(width, HEADINGS, [ROW], range(1, 6))
    assert all(cell in text for cell in ROW[1:])
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    for heading in HEADINGS:
        assert all(word in text for word in heading.split())


def test_a_title_is_as_long_as_the_terminal_and_not_as_the_table() -> None:
    text = io.StringIO()
    print_table(Console(file=text, width=80), "a title that is wider than its table", ["n"], [["1"]], [0])
    assert text.getvalue().splitlines()[0].rstrip() == "a title that is wider than its table"


def test_columns_that_do_not_fit_follow_in_a_table_that_begins_with_the_first() -> None:
    text = printed(50, HEADINGS, [ROW], range(1, 6))
    assert len(re.findall(r"^strategy", text, re.MULTILINE)) == 2
    assert len(re.findall("a title", text)) == 1
    assert len(re.findall(r"^strategy", printed(200, HEADINGS, [ROW], range(1, 6)), re.MULTILINE)) == 1


@pytest.mark.slow
@given(st.lists(st.lists(st.integers(0, 10**9), min_size=6, max_size=6), min_size=1, max_size=3), st.integers(30, 150))
def test_whatever_the_numbers_each_is_on_a_line(numbers: list[list[int]], width: int) -> None:
    rows = [["name", *(f"{number:,}" for number in row)] for row in numbers]
    words = printed(width, ["name", *"abcdef"], rows, range(1, 7)).split()
    assert sorted(word for word in words if word[0].isdigit()) == sorted(cell for row in rows for cell in row[1:])
