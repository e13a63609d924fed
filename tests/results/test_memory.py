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
from clbench.diagnostics import doctor
from clbench.results.stored_run import Unreadable
from clbench.results.stored_runs import read, read_all
from clbench.runs.outcome import Outcome, describe_missing
from clbench.system.files import read_plain


def growth(make: Callable[[], Any]) -> tuple[int, int]:
    """Return how many bytes the result of `make` holds, and the most that were held while it was made."""
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
    samples = 5000  # of each of 4 classes; in 2 settings after 2 experiences, in two bytes each: 200 kB
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


def test_a_file_is_read_in_as_much_memory_as_it_needs_however_large_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"content")
    assert read_plain(tmp_path / "small", most=2**60) == b"content"
    with pytest.raises(OSError, match="larger than 6 bytes"):
        read_plain(tmp_path / "small", most=6)


def test_a_run_for_which_memory_is_short_is_not_advised_to_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(files: Any) -> None:
        raise MemoryError

    run = publish(tmp_path, "naive")
    monkeypatch.setattr("clbench.results.run_checks.predictions", too_much)
    found = read(run.path)
    assert isinstance(found, Unreadable)
    said = describe_missing([Outcome("naive", "finished", run.path)], [found])
    assert "there is not enough memory to read it" in said and "Free memory" in said and "Remove" not in said
    assert "Free memory" in doctor._unreadable(found).fix
