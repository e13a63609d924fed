"""The axis of seconds: few ticks, whatever the range of the runs."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from stored_runs import publish

from clbench.comparison.grouping import compare
from clbench.reporting.figures import cost


@pytest.mark.parametrize(
    ("seconds", "ticks"),
    [
        ((1.4, 2.4), None),  # 2 alone is left of 1, 2 and 5 in every power of ten
        ((1.0, 4.0), [1, 2, 5]),
        ((3.0, 900.0), [10, 100, 1000]),
    ],
)
def test_seconds_have_a_few_ticks_in_a_narrow_range_as_in_a_wide_one(
    tmp_path: Path, seconds: tuple[float, float], ticks: list[float] | None
) -> None:
    runs = [publish(tmp_path, name, seconds=spent) for name, spent in zip(("naive", "er"), seconds, strict=True)]
    (comparison,) = compare(runs)
    axes = Figure().add_subplot()
    cost(comparison).panels[0][1].draw(axes)
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert shown == ticks if ticks else 2 <= len(shown) <= 5
