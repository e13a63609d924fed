"""The figure of old and new classes, which every report begins with, on runs whose numbers are known."""

from pathlib import Path

import matplotlib.figure
import pytest
from stored_runs import publish

from clbench.comparison.grouping import compare
from clbench.reporting.drawing import draw_curves
from clbench.reporting.figures import curves, metric, old_and_new
from clbench.results.stored_runs import read_all


@pytest.mark.parametrize(("seeds", "bands"), [(1, 0), (2, 0), (3, 1)])
def test_a_band_is_drawn_from_three_seeds_on_and_the_note_says_why_not_from_two(
    seeds: int, bands: int, tmp_path: Path
) -> None:
    for seed in range(seeds):
        publish(tmp_path, "lwf", seed, old=0.5 + seed / 20)
    (found,) = compare(read_all([tmp_path])[0])
    axes = matplotlib.figure.Figure().add_subplot()
    draw_curves(axes, title="Old classes", found=curves(found, metric("old_accuracy")), start=1)
    assert len(axes.collections) == bands
    assert ("no band is drawn" in old_and_new(found).note) == (seeds == 2)
