"""Lists runs that failed, which are stored apart with their tracebacks, until they have succeeded."""

from __future__ import annotations

import contextlib
import glob
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clbench.results import store
from clbench.results.record_model import to_json
from clbench.results.run_files import Folder
from clbench.results.run_result import FailedRun
from clbench.results.run_spec import RunSpec
from clbench.results.stored_run import json_file


@dataclass(frozen=True)
class Failure:
    """A run that failed and is stored apart."""

    run: str
    """`<scenario>/<strategy>/<recipe>-seed<k>-<id>`."""

    path: Path
    """Where its traceback is."""

    scenario: str
    strategy: str
    seed: int
    message: str


def failures(places: Iterable[str | Path]) -> list[Failure]:
    """Return the failed runs that would be at or below the given folders if they had succeeded, by name.

    If a strategy's file was changed and tried again, only the last attempt counts.
    """
    found = {path.resolve(): path for place in map(Path, places) for path in store.failed_runs(place)}
    last: dict[tuple[Path, str], tuple[int, Failure]] = {}
    for path in found.values():
        with contextlib.suppress(OSError, ValueError):
            spec = RunSpec.model_validate_json(json_file(Folder(path), "spec"))
            failed = FailedRun.model_validate_json(json_file(Folder(path), "result"))
            finished, tried = path.parents[3] / path.parent.relative_to(path.parents[2]), path.stat().st_mtime_ns
            names = spec.scenario.name, spec.strategy.name, spec.seeds.run
            failure = Failure("/".join(path.parts[-3:]), path, *names, failed.error)
            try_of = (finished, _apart_from_the_file(spec))
            last[try_of] = max(last.get(try_of, (0, failure)), (tried, failure), key=lambda each: each[0])
    still = [
        failure
        for (finished, key), (tried, failure) in last.items()
        if not _finished_since(tried, finished, failure, key)
    ]
    return sorted(still, key=lambda failure: failure.run)


def _finished_since(tried: int, runs: Path, failure: Failure, key: str) -> bool:
    """Return whether a run in this folder that differs only in the strategy's file was made later.

    Its name is then the same up to the id.
    """
    for path in runs.glob(f"{glob.escape(failure.path.name.rpartition('-')[0])}-*"):
        with contextlib.suppress(OSError, ValueError):
            if path.stat().st_mtime_ns > tried:
                spec = RunSpec.model_validate_json(json_file(Folder(path), "spec"))
                if _apart_from_the_file(spec) == key:
                    return True
    return False


def _apart_from_the_file(spec: RunSpec) -> str:
    """Return what identifies a run apart from its strategy's file."""
    values = to_json(spec)
    del values["strategy"]["sha256"]
    return json.dumps(values, sort_keys=True)
