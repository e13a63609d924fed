"""The lines of a TOML document's keys, against lines counted by hand; values that read back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clbench.system.toml import key_text, line_of, parse, value_text

DOCUMENT = '''# a study
seeds = 3

"quoted key" = 1
long = """
seeds = 4
[[grid]]
"""
strategy = [
    "naive",  # the lower reference
    "lwf",
]
inline = { one = 1, two = { three = 3 } }
set.lwf.alpha = 2
set."lwf:pycil".alpha = 3

[set.recipe]
# of all sections
lr = 0.05
augmentation.crop = 4

[[grid]]
seeds = 1

[[grid]]
scenario = "splitdigits"
  seeds = 2
[grid.set]
lwf.alpha = 1
[[grid]]'''

LINES = {
    ("seeds",): 2,
    ("quoted key",): 4,
    ("long",): 5,
    ("strategy",): 9,
    ("strategy", 1): 9,
    ("inline",): 13,
    ("inline", "two", "three"): 13,
    ("set",): 14,
    ("set", "lwf", "alpha"): 14,
    ("set", "lwf:pycil", "alpha"): 15,
    ("set", "recipe"): 17,
    ("set", "recipe", "lr"): 19,
    ("set", "recipe", "augmentation", "crop"): 20,
    ("grid",): 22,
    ("grid", 0, "seeds"): 23,
    ("grid", 1): 25,
    ("grid", 1, "seeds"): 27,
    ("grid", 1, "set"): 28,
    ("grid", 1, "set", "lwf", "alpha"): 29,
    ("grid", 2): 30,
}


@pytest.mark.parametrize(("keys", "line"), LINES.items(), ids=lambda value: str(value))
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["unix", "windows"])
def test_the_line_of_a_key_is_the_one_on_which_it_is_written(keys: tuple[str | int, ...], line: int, ends: str) -> None:
    assert line_of(DOCUMENT.replace("\n", ends), keys) == line


def test_a_key_is_found_among_thousands_of_lines() -> None:
    text = "\n".join(f"key{number} = {number}" for number in range(5000))
    assert line_of(text, ("key4321",)) == 4322


SCALARS = (
    st.text() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3), SCALARS | st.lists(SCALARS))
def test_what_is_written_reads_back_as_it_was(keys: list[str], value: object) -> None:
    read: object = parse(f"{key_text(keys)} = {value_text(value)}")
    for key in keys:
        assert isinstance(read, dict)
        read = read[key]
    assert read == value and type(read) is type(value)
