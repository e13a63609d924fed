"""Which failed runs are listed: if a strategy's file was changed and tried again, only the last attempt."""

from __future__ import annotations

import os
from pathlib import Path

from stored_runs import publish, spec_of

from clbench.results import store
from clbench.results.failed_runs import failures
from clbench.results.record_model import as_json
from clbench.results.run_result import FailedRun
from clbench.results.run_spec import folder_name, run_id


def fail(folder: Path, text: str, message: str, at: int, recipe: str = "quick") -> Path:
    """A run of the strategy `mine`, whose file is `text`, that failed `at` this second."""
    spec = spec_of("mine", 0, text, {}, recipe, "tiny", (2, 2), None, 1)
    failed = FailedRun(status="failed", run_id=run_id(spec), error=message)
    files = {"spec.json": as_json(spec), "result.json": as_json(failed)}
    kept = store.ResultsFolder(folder).keep_failure(folder_name(spec), run_id(spec), files)
    os.utime(kept, (at, at))
    return kept


def told(folder: Path) -> list[str]:
    return [failure.message for failure in failures([folder])]


def test_of_several_tries_the_last_is_told_and_another_recipes_failure_with_it(tmp_path: Path) -> None:
    fail(tmp_path, "# one", "first", 100)
    last = fail(tmp_path, "# two", "second", 200)
    fail(tmp_path, "# one", "of another recipe", 100, recipe="long")
    assert sorted(told(tmp_path)) == ["of another recipe", "second"]
    assert last in [failure.path for failure in failures([tmp_path])]


def test_a_failure_is_forgotten_once_a_changed_file_finishes_the_run_and_not_by_an_older_run(tmp_path: Path) -> None:
    made = publish(tmp_path, "mine", seed=0).path
    fail(tmp_path, "# one", "first", 100)
    os.utime(made, (50, 50))
    assert told(tmp_path) == ["first"]
    os.utime(made, (150, 150))
    assert told(tmp_path) == []
