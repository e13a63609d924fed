"""Stored runs, read back and checked: files against manifest, metrics against counts, counts against predictions."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json

from clbench.base.incremental_setting import READINGS, Setting
from clbench.errors import UsageError
from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts, count
from clbench.results import store
from clbench.results.command import command_of_schema_1
from clbench.results.environment import Environment
from clbench.results.pack import PackedRun, open_pack
from clbench.results.record_model import SCHEMA, to_json
from clbench.results.run_costs import RunCosts
from clbench.results.run_files import Folder, RunFiles
from clbench.results.run_result import FailedRun, RunResult
from clbench.results.run_spec import RunSpec, experience_classes, folder_name, run_id
from clbench.system.output import one_line

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_LARGEST_PREDICTIONS = 2**30


@dataclass(frozen=True)
class StoredRun:
    """A finished run as its files have it."""

    files: RunFiles
    spec: RunSpec
    result: RunResult
    costs: RunCosts
    environment: Environment
    """On what it was made: versions, processor, times; no number depends on what is read from here."""

    @property
    def path(self) -> Path:
        """The folder of its files, or where they would be if their pack were one."""
        return self.files.path

    @property
    def setting(self) -> Setting:
        """In which the network was trained."""
        return self.spec.scenario.setting

    def counts(self, setting: Setting | None = None) -> Counts:
        """The integer counts, read in the run's own setting or in another of `READINGS`."""
        return Counts(**dict(self.result.counts[setting or self.setting]))

    def metric(self, name: str, setting: Setting | None = None) -> Any:
        """A metric by its name (see evaluation/metrics.py), read in the run's own setting or in another.

        One that clbench has learned since the run was stored follows from the counts like the others.
        """
        stored = self.result.metrics[setting or self.setting]
        return stored[name] if name in stored else metrics.derive(self.counts(setting))[name]

    def final_predictions(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The labels and the predictions of the test samples after the last experience, class ids (N,) each.

        Without an evaluation then, the predictions are -1. They are read from the run's file each time, since those of
        all runs together may be large.
        """
        arrays = _predictions(self.files)
        return arrays["labels"], arrays[self.setting][-1]

    @property
    def source(self) -> bytes | None:
        """The file of the strategy that made it, only ever shown, never run; None if its results folder has not got it,
        or has another content under its hash."""
        try:
            content = self.files.source(self.spec.strategy.sha256)
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == self.spec.strategy.sha256 else None


@dataclass(frozen=True)
class Unreadable:
    """A run folder that is not what a run must be; nothing of it is used."""

    path: Path
    problem: str
    other_schema: bool = False
    """Whether nothing is wrong but its schema; the problem then says what to do."""

    def __str__(self) -> str:
        """Where it is and what is wrong, in a line: a stranger may have written both."""
        return one_line(f"{self.path}: {self.problem}")


def read(path: Path) -> StoredRun | Unreadable:
    """Read the run in the folder `path` and check it all through. Runs no code from it: it is JSON and arrays."""
    return read_files(Folder(path))


def read_files(files: RunFiles) -> StoredRun | Unreadable:
    """Read the run that these files are and check it all through, as `read` does."""
    path = files.path
    if problem := files.damage():
        return Unreadable(path, problem)
    try:
        spec = _json_file(files, "spec")
        if problem := _other_schema(files, from_json(spec)):
            return Unreadable(path, problem, other_schema=True)
        run = StoredRun(
            files,
            RunSpec.model_validate_json(spec),
            RunResult.model_validate_json(_json_file(files, "result")),
            RunCosts.model_validate_json(_json_file(files, "costs")),
            Environment.model_validate_json(_json_file(files, "environment")),
        )
        problem = _disagreement(run)
        if isinstance(files, PackedRun) and files.name != folder_name(run.spec):
            problem = f"its spec is that of {folder_name(run.spec)}"
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        place = ".".join(map(str, first["loc"]))
        problem = f"its {error.title} is not valid: {place}{': ' if place else ''}{first['msg']}"
    except Exception as error:  # whatever the parsers of JSON, Python, zip and arrays make of a stranger's bytes
        problem = f"{type(error).__name__}: {error}"
    return Unreadable(path, problem) if problem else run


def _json_file(files: RunFiles, name: str) -> bytes:
    return files.read(f"{name}.json", store.LARGEST_JSON)


def _other_schema(files: RunFiles, spec: dict[str, Any]) -> str | None:
    """Return why a run of another schema is not read, and the command that makes it again; None for this schema."""
    if (schema := spec["schema"]) == SCHEMA:
        return None
    problem = f"it has schema {schema}, and this version of clbench reads schema {SCHEMA}"
    if schema != 1:
        return f"{problem}; update clbench to read it"
    source = files.read("strategy.py", store.LARGEST_JSON)
    return f"{problem}; run it again with: {command_of_schema_1(spec, source)}"


def _disagreement(run: StoredRun) -> str | None:
    """Return what does not follow from what it must follow from, or None."""
    for name, record in (("result.json", run.result), ("costs.json", run.costs)):
        if record.run_id != run_id(run.spec):
            return f"{name} belongs to another spec"
    scenario, classes = run.spec.scenario, experience_classes(run.spec)
    if tuple(map(len, classes)) != scenario.classes_per_experience or sum(map(len, classes)) < len(
        scenario.class_order
    ):
        return "its class order does not have as many classes as its experiences"
    if scenario.class_names is not None and len(scenario.class_names) <= max(scenario.class_order):
        return "its class order has classes without a name"
    arrays = _predictions(run.files)
    for setting in READINGS[run.setting]:
        counts = run.counts(setting)
        evaluated = [row is not None for row in counts.correct]
        if count(arrays[setting], arrays["labels"], classes, evaluated, setting=setting) != counts:
            return f"its {setting} counts are not those of its predictions"
        derived = metrics.derive(counts)
        if any(name not in derived or derived[name] != value for name, value in run.result.metrics[setting].items()):
            return f"its {setting} metrics do not follow from its counts"
        if list(run.result.chance[setting]) != metrics.chance(scenario.classes_per_experience, counts.total)[setting]:
            return f"its {setting} chance does not follow from its classes"
    return None


def _predictions(files: RunFiles) -> dict[str, Any]:
    import numpy as np

    content = files.read("predictions.npz", _LARGEST_PREDICTIONS)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_PREDICTIONS:
            raise ValueError("predictions.npz claims more than 1 GiB")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


RESULTS = Path("results")
"""Where runs are stored and looked for if no folder is named."""


def usual_places() -> tuple[list[Path], list[Path]]:
    """Return the folders to read if none is named: those of the runs in `results`; and what is left out.

    That are the results folders inside it, such as the reference runs of a checkout.
    """
    if not RESULTS.is_dir():
        return [RESULTS], []
    own, nested = store.own_and_nested(RESULTS)
    return (own, nested) if nested else ([RESULTS], [])


Watch = Callable[[Sequence[Any], str], Iterable[Any]]
"""Gives the items of a sequence one by one, and may show how far it is with what."""


def unwatched(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Give the items and show nothing."""
    return items


def read_all(places: Iterable[str | Path], watch: Watch = unwatched) -> tuple[list[StoredRun], list[Unreadable]]:
    """Read every run at or below the given folders and in the given packs, each once.

    Raises UsageError for a place that does not exist, and DataError for a file that is no pack. The runs are taken
    through `watch`, which may show how far it is.
    """
    files: dict[Path, RunFiles] = {}
    for place in map(Path, places):
        for own in _files_at(place):
            files.setdefault(own.path.resolve(), own)
    found = [read_files(own) for own in watch(list(files.values()), "reading runs")]
    runs: dict[str, StoredRun] = {}
    for run in found:
        if isinstance(run, StoredRun):
            same = runs.setdefault(run.result.run_id, run)
            # Of the same run made twice, with other times, one is read, whatever the order of the places.
            runs[run.result.run_id] = min(
                same, run, key=lambda each: each.files.read(store.MANIFEST, store.LARGEST_JSON)
            )
    return list(runs.values()), [run for run in found if isinstance(run, Unreadable)]


def _files_at(place: Path) -> Sequence[RunFiles]:
    if place.is_dir():
        return [Folder(path) for path in store.published_runs(place)]
    if place.is_file():
        return open_pack(place).runs()
    raise UsageError(f"there is no folder or pack {place}", "Runs are stored by: clbench run --out FOLDER")


@dataclass(frozen=True)
class Failure:
    """A run that failed and is kept apart."""

    run: str
    """`<scenario>/<strategy>/<recipe>-seed<k>-<id>`."""

    path: Path
    """Where its traceback is."""

    scenario: str
    strategy: str
    seed: int
    message: str


def failures(places: Iterable[str | Path]) -> list[Failure]:
    """Return the failed runs that would lie at or below the given folders had they succeeded, by name.

    Of a strategy whose file was changed and tried again, only the last try counts.
    """
    found = {path.resolve(): path for place in map(Path, places) for path in store.failed_runs(place)}
    last: dict[tuple[Path, str], tuple[int, Failure]] = {}
    for path in found.values():
        with contextlib.suppress(OSError, ValueError):
            spec = RunSpec.model_validate_json(_json_file(Folder(path), "spec"))
            failed = FailedRun.model_validate_json(_json_file(Folder(path), "result"))
            finished, tried = path.parents[3] / path.parent.relative_to(path.parents[2]), path.stat().st_mtime_ns
            names = spec.scenario.name, spec.strategy.name, spec.seeds.run
            failure = Failure("/".join(path.parts[-3:]), path, *names, failed.error)
            try_of = (finished, _apart_from_the_file(spec))
            last[try_of] = max(last.get(try_of, (0, failure)), (tried, failure), key=lambda each: each[0])
    still = [failure for (finished, key), (tried, failure) in last.items() if not _finished_since(tried, finished, key)]
    return sorted(still, key=lambda failure: failure.run)


def _finished_since(tried: int, runs: Path, key: str) -> bool:
    """Return whether a run in this folder that is the same but for the strategy's file was made later."""
    for path in store.published_runs(runs):
        with contextlib.suppress(OSError, ValueError):
            if path.stat().st_mtime_ns > tried:
                spec = RunSpec.model_validate_json(_json_file(Folder(path), "spec"))
                if _apart_from_the_file(spec) == key:
                    return True
    return False


def _apart_from_the_file(spec: RunSpec) -> str:
    """Return what identifies a run but for its strategy's file."""
    values = to_json(spec)
    del values["strategy"]["sha256"]
    return json.dumps(values, sort_keys=True)


def frame(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Return the counts as a tidy frame, a row per run, setting, `after` (experience trained) and `on` (tested).

    Columns: run (its id), scenario, split, class_order (seed, natural or list), trained (the setting), strategy,
    preset, config (JSON), recipe, seed, setting (in which it is read), after, on, correct, total, accuracy.
    Experiences that were not evaluated have none.
    """
    import pandas as pd

    from clbench.streams.splits import describe_split

    rows = []
    for run in runs:
        spec = run.spec
        fixed = {
            "run": run.result.run_id,
            "scenario": spec.scenario.name,
            "split": describe_split(spec.scenario.classes_per_experience),
            "class_order": spec.scenario.class_order_from,
            "trained": run.setting,
            "strategy": spec.strategy.name,
            "preset": spec.strategy.preset,
            "config": json.dumps(spec.strategy.config, sort_keys=True),
            "recipe": spec.recipe.name,
            "seed": spec.seeds.run,
        }
        for setting in READINGS[run.setting]:
            counts = run.counts(setting)
            for after, row in enumerate(counts.correct):
                for on, correct in enumerate(row or ()):
                    place = {"setting": setting, "after": after, "on": on}
                    rows.append(fixed | place | {"correct": correct, "total": counts.total[on]})
    names = ["run", "scenario", "split", "class_order", "trained", "strategy", "preset", "config", "recipe", "seed"]
    table = pd.DataFrame(rows, columns=[*names, "setting", "after", "on", "correct", "total"])
    table["accuracy"] = table["correct"] / table["total"]
    return table
