"""A thousand stored runs fit into memory: predictions are read run by run, and comparing does not multiply them."""

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stored_runs import publish

from clbench.comparison.grouping import compare
from clbench.results.stored_runs import read, read_all


def growth(make: Callable[[], Any]) -> tuple[int, int]:
    """Return how many bytes what `make` returns holds, and how many were held at most while it was made."""
    gc.collect()
    tracemalloc.start()
    made = make()
    gc.collect()
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del made
    return held, most


@pytest.mark.slow
def test_what_is_kept_of_a_run_does_not_grow_with_its_predictions_nor_the_peak_with_the_runs(tmp_path: Path) -> None:
    samples = 2000  # of each of 4 classes; in 2 settings after 2 experiences, in two bytes each: 80 kB
    for seed in range(20):
        publish(tmp_path / "many", seed=seed, samples=samples)
    publish(tmp_path / "small", samples=10)
    predictions = 4 * samples * (2 * 2 + 1) * 2
    read_all([tmp_path / "small"])  # imports, and caches of the parsers
    small, _ = growth(lambda: read_all([tmp_path / "small"]))
    held, most = growth(lambda: read_all([tmp_path / "many"]))
    assert held / 20 < small + 5_000 < predictions / 2
    _, one = growth(lambda: read(next((tmp_path / "many").glob("*/*/*seed0-*"))))
    assert most < one + 20 * (small + 5_000)


@pytest.mark.slow
def test_comparing_many_seeds_takes_little_more_than_the_runs(tmp_path: Path) -> None:
    few = [publish(tmp_path, name, seed) for name in ("naive", "lwf") for seed in range(2)]

    def with_seed(run: Any, seed: int) -> Any:
        seeds = run.spec.seeds.model_copy(update={"run": seed})
        spec = run.spec.model_copy(update={"seeds": seeds})
        return replace(run, facts=replace(run.facts, spec=spec))

    many = [with_seed(run, seed + 2 * copy) for run in few for seed in [run.spec.seeds.run] for copy in range(250)]
    compare(few)  # imports
    _, most = growth(lambda: compare(many))
    assert most < 60e6  # 1000 runs; the sign patterns of the tests are 16 MB
