"""Stored runs, read back and checked: files against manifest, metrics against counts, counts against predictions."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clbench.base.settings import READINGS, Setting
from clbench.errors import UsageError
from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts, count
from clbench.results import store

if TYPE_CHECKING:
    import pandas as pd

_LARGEST_PREDICTIONS = 2**30


@dataclass(frozen=True)
class StoredRun:
    """A finished run as its files have it."""

    path: Path
    spec: dict[str, Any]
    result: dict[str, Any]
    environment: dict[str, Any]
    """On what it was made: versions, processor, times; no number depends on what is read from here."""

    source: bytes
    """The file of the strategy that made it; only ever shown, never run."""

    @property
    def setting(self) -> Setting:
        """In which the network was trained."""
        found: Setting = self.spec["scenario"]["setting"]
        return found

    def counts(self, setting: Setting | None = None) -> Counts:
        """The integer counts, read in the run's own setting or in another of `READINGS`."""
        return Counts.from_json(self.result["counts"][setting or self.setting])

    def metric(self, name: str, setting: Setting | None = None) -> Any:
        """A stored metric by its name (see evaluation/metrics.py), read in the run's own setting or in another."""
        return self.result["metrics"][setting or self.setting][name]


@dataclass(frozen=True)
class Unreadable:
    """A run folder that is not what a run must be; nothing of it is used."""

    path: Path
    problem: str


def read(path: Path) -> StoredRun | Unreadable:
    """Read the run in the folder `path` and check it all through. Runs no code from it: it is JSON and arrays."""
    if problem := store.damage(path):
        return Unreadable(path, problem)
    try:
        spec, result, environment = (
            json.loads((path / f"{name}.json").read_bytes()) for name in ("spec", "result", "environment")
        )
        if result["schema"] != 1 or spec["schema"] != 1:
            return Unreadable(path, "its format is of another version of clbench")
        run = StoredRun(path, spec, result, environment, (path / "strategy.py").read_bytes())
        problem = _disagreement(run)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        problem = f"{type(error).__name__}: {error}"
    return Unreadable(path, problem) if problem else run


def _disagreement(run: StoredRun) -> str | None:
    """Return what does not follow from what it must follow from, or None."""
    from clbench.results.spec import experience_classes, run_id

    if run.result["run_id"] != run_id(run.spec):
        return "result.json belongs to another spec"
    if hashlib.sha256(run.source).hexdigest() != run.spec["strategy"]["sha256"]:
        return "strategy.py is not the file that spec.json names"
    arrays = _predictions((run.path / "predictions.npz").read_bytes())
    for setting in READINGS[run.setting]:
        counts = run.counts(setting)
        evaluated = [row is not None for row in counts.correct]
        classes = experience_classes(run.spec)
        if count(arrays[setting], arrays["labels"], classes, evaluated, setting=setting) != counts:
            return f"its {setting} counts are not those of its predictions"
        if metrics.derive(counts) != run.result["metrics"][setting]:
            return f"its {setting} metrics do not follow from its counts"
    return None


def _predictions(content: bytes) -> dict[str, Any]:
    import numpy as np

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_PREDICTIONS:
            raise ValueError("predictions.npz claims more than 1 GiB")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_all(places: Iterable[str | Path]) -> tuple[list[StoredRun], list[Unreadable]]:
    """Read every run at or below the given folders, each once. Raises UsageError for a place that does not exist."""
    found: dict[Path, StoredRun | Unreadable] = {}
    for place in map(Path, places):
        if not place.is_dir():
            raise UsageError(f"there is no folder {place}", "Runs are stored by: clbench run --out FOLDER")
        for path in store.published_runs(place):
            found.setdefault(path.resolve(), read(path))
    runs: dict[str, StoredRun] = {}
    for run in found.values():
        if isinstance(run, StoredRun):
            same = runs.setdefault(run.result["run_id"], run)
            # Of the same run made twice, with other times, one is read, whatever the order of the places.
            runs[run.result["run_id"]] = min(same, run, key=lambda each: (each.path / store.MANIFEST).read_bytes())
    return list(runs.values()), [run for run in found.values() if isinstance(run, Unreadable)]


@dataclass(frozen=True)
class Failure:
    """A run that failed and is kept apart."""

    run: str
    """`<scenario>/<strategy>/<recipe>-seed<k>-<id>`."""

    scenario: str
    strategy: str
    seed: int
    message: str


def failures(places: Iterable[str | Path]) -> list[Failure]:
    """Return the failed runs that would lie at or below the given folders had they succeeded, by name."""
    found = {path.resolve(): path for place in map(Path, places) for path in store.failed_runs(place)}
    made = [_failure(path) for path in found.values()]
    return sorted((failure for failure in made if failure), key=lambda failure: failure.run)


def _failure(path: Path) -> Failure | None:
    try:
        spec, result = (json.loads((path / f"{name}.json").read_bytes()) for name in ("spec", "result"))
        names = spec["scenario"]["name"], spec["strategy"]["name"], int(spec["seeds"]["run"])
        return Failure("/".join(path.parts[-3:]), *names, str(result["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Return the counts as a tidy frame, a row per run, setting, `after` (experience trained) and `on` (tested).

    Columns: run (its id), scenario, split, trained (the setting), strategy, preset, config (JSON), recipe, seed,
    setting (in which it is read), after, on, correct, total, accuracy. Experiences that were not evaluated have none.
    """
    import pandas as pd

    from clbench.streams.splits import describe_split

    rows = []
    for run in runs:
        spec = run.spec
        fixed = {
            "run": run.result["run_id"],
            "scenario": spec["scenario"]["name"],
            "split": describe_split(spec["scenario"]["classes_per_experience"]),
            "trained": run.setting,
            "strategy": spec["strategy"]["name"],
            "preset": spec["strategy"].get("preset"),
            "config": json.dumps(spec["strategy"]["config"], sort_keys=True),
            "recipe": spec["recipe"]["name"],
            "seed": spec["seeds"]["run"],
        }
        for setting in READINGS[run.setting]:
            counts = run.counts(setting)
            for after, row in enumerate(counts.correct):
                for on, correct in enumerate(row or ()):
                    place = {"setting": setting, "after": after, "on": on}
                    rows.append(fixed | place | {"correct": correct, "total": counts.total[on]})
    names = [*("run", "scenario", "split", "trained", "strategy", "preset", "config", "recipe", "seed")]
    table = pd.DataFrame(rows, columns=[*names, "setting", "after", "on", "correct", "total"])
    table["accuracy"] = table["correct"] / table["total"]
    return table
