"""Stored runs, read back and checked: files against manifest, metrics against counts, counts against predictions.

Of many runs what was read once is known from an index (see run_index.py) while their files look the same from outside.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import from_json

from clbench.base.incremental_setting import Setting
from clbench.errors import UsageError
from clbench.evaluation import metrics
from clbench.evaluation.ahead import Ahead, count_ahead, forward_transfer
from clbench.evaluation.counts import Counts, count, require
from clbench.evaluation.curve import Curve
from clbench.results import store
from clbench.results.command import command_of_schema_1
from clbench.results.environment import Environment
from clbench.results.pack import PackedRun, open_pack
from clbench.results.record_model import SCHEMA, to_json
from clbench.results.run_costs import RunCosts
from clbench.results.run_facts import Packed, RunFacts, Shared, ends_of, pack, unpack
from clbench.results.run_files import Folder, RunFiles
from clbench.results.run_index import RunIndexes
from clbench.results.run_result import FailedRun, RunResult
from clbench.results.run_spec import RunSpec, experience_classes, folder_name, run_id
from clbench.system.output import one_line

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_LARGEST_PREDICTIONS = 2**30


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A finished run. What comparisons need of it is in memory, and the whole of its records is read when asked for."""

    files: RunFiles
    facts: RunFacts

    @property
    def path(self) -> Path:
        """Where its files are."""
        return self.files.path

    @property
    def run_id(self) -> str:
        """Hash of its spec."""
        return self.facts.run_id

    @property
    def spec(self) -> RunSpec:
        """Every choice that its numbers depend on."""
        return self.facts.spec

    @property
    def setting(self) -> Setting:
        """In which the network was trained."""
        return self.spec.scenario.setting

    @property
    def result(self) -> RunResult:
        """What came out of it, read from its file each time."""
        return RunResult.model_validate_json(_json_file(self.files, "result"))

    @property
    def costs(self) -> RunCosts:
        """What it took, read from its file each time."""
        return RunCosts.model_validate_json(_json_file(self.files, "costs"))

    @property
    def environment(self) -> Environment:
        """On what it was made: versions, processor, times; no number depends on what is read from here each time."""
        return Environment.model_validate_json(_json_file(self.files, "environment"))

    def counts(self, setting: Setting | None = None) -> Counts:
        """The integer counts, read in the run's own setting or in another of its readings."""
        return self.facts.counts(setting or self.setting)

    def curve(self, setting: Setting | None = None) -> Curve | None:
        """What was right within experiences, read likewise; None if it was evaluated at their ends alone."""
        return self.facts.curve(setting or self.setting)

    def metric(self, name: str, setting: Setting | None = None) -> Any:
        """A metric by its name (see evaluation/metrics.py), read in the run's own setting or in another.

        Those within experiences are None for a run that was evaluated at their ends alone, and `forward_transfer` is
        for one whose experiences are not domains.
        """
        if name == forward_transfer.__name__:
            return self.facts.forward_transfer
        if name not in metrics.BY_NAME_WITHIN:
            return metrics.BY_NAME[name](self.counts(setting))
        curve = self.curve(setting)
        return None if curve is None else metrics.BY_NAME_WITHIN[name](self.counts(setting), curve)

    def final(self, name: str, setting: Setting | None = None) -> float | None:
        """A metric of `run_facts.FINAL` or `FINAL_WITHIN` after the last experience, known without the counts."""
        return self.facts.final(name, setting or self.setting)

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
    found = _checked(files)
    return found if isinstance(found, Unreadable) else StoredRun(files, unpack(found, Shared()))


def _checked(files: RunFiles) -> Packed | Unreadable:
    """Check a run all through, and return what is to be known of it."""
    path = files.path
    if problem := files.damage():
        return Unreadable(path, problem)
    try:
        spec_json = _json_file(files, "spec")
        if problem := _other_schema(files, from_json(spec_json)):
            return Unreadable(path, problem, other_schema=True)
        spec = RunSpec.model_validate_json(spec_json)
        result = RunResult.model_validate_json(_json_file(files, "result"))
        costs = RunCosts.model_validate_json(_json_file(files, "costs"))
        Environment.model_validate_json(_json_file(files, "environment"))
        problem = _disagreement(files, spec, result, costs)
        if isinstance(files, PackedRun) and files.name != folder_name(spec):
            problem = f"its spec is that of {folder_name(spec)}"
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False)
        place = ".".join(map(str, first["loc"]))
        problem = f"its {error.title} is not valid: {place}{': ' if place else ''}{first['msg']}"
    except Exception as error:  # whatever the parsers of JSON, Python, zip and arrays make of a stranger's bytes
        problem = f"{type(error).__name__}: {error}"
    return Unreadable(path, problem) if problem else pack(spec, result, costs)


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


def _disagreement(files: RunFiles, spec: RunSpec, result: RunResult, costs: RunCosts) -> str | None:
    """Return what does not follow from what it must follow from, or None."""
    identity = run_id(spec)
    for name, belongs_to in (("result.json", result.run_id), ("costs.json", costs.run_id)):
        if belongs_to != identity:
            return f"{name} belongs to another spec"
    scenario, classes = spec.scenario, experience_classes(spec)
    if tuple(map(len, classes)) != scenario.classes_per_experience or sum(map(len, classes)) < len(
        scenario.class_order
    ):
        return "its class order does not have as many classes as its experiences"
    if scenario.class_names is not None and len(scenario.class_names) <= max(scenario.class_order):
        return "its class order has classes without a name"
    if result.ahead is not None and scenario.setting != "domain_incremental":
        return "its experiences share no outputs, and cannot be judged before they are learned"
    if result.curves and set(result.curves) != set(scenario.readings):
        return "its curves are not of the settings in which it is read"
    if result.training_images is not None and len(result.training_images) != sum(map(len, classes)):
        return "its training images are not of as many classes as it has"
    arrays = _predictions(files)
    for setting in scenario.readings:
        counts = Counts(**dict(result.counts[setting]))
        evaluated = [row is not None for row in counts.correct]
        if count(arrays[setting], arrays["labels"], classes, evaluated, setting=setting) != counts:
            return f"its {setting} counts are not those of its predictions"
        curve = _curve(result, setting, counts)
        derived = metrics.derive(counts, curve)
        if result.ahead is not None:
            ahead = Ahead(**dict(result.ahead))
            if count_ahead(arrays[setting], arrays["untrained"], arrays["labels"], classes, evaluated) != ahead:
                return "what it says of domains before they were learned does not follow from its predictions"
            derived["forward_transfer"] = forward_transfer(counts, ahead)
        if any(name not in derived or derived[name] != value for name, value in result.metrics[setting].items()):
            return f"its {setting} metrics do not follow from its counts"
        if list(result.chance[setting]) != metrics.chance(scenario.classes_per_experience, counts.total)[setting]:
            return f"its {setting} chance does not follow from its classes"
    return None


def _curve(result: RunResult, setting: Setting, counts: Counts) -> Curve | None:
    """Return the curve, whose points must lie within their experiences. Raises ValueError if they do not."""
    if not result.curves:
        return None
    curve, ends = Curve(**dict(result.curves[setting])), [0, *ends_of(result)]
    curve.check_against(counts)
    require(len(ends) == len(counts.total) + 1, "there is a curve, and not a result of each experience")
    for step, i in zip(curve.steps, curve.experiences, strict=True):
        require(ends[i] < step < ends[i + 1], f"step {step} of the curve is not within experience {i}")
    return curve


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

    Raises UsageError for a place that does not exist, and DataError for a file that is no pack. Runs that are not known
    from an index are taken through `watch`, which may show how far it is.
    """
    files = _by_real_path(places)
    return _each_once(_read_each(files, RunIndexes(files), watch).values())


@dataclass(frozen=True)
class Checked:
    """Runs of which every byte was read."""

    runs: list[StoredRun]
    unreadable: list[Unreadable]
    index_was_wrong: list[Path]
    """Those of which the index said something else, though the files looked the same from outside."""


def check_every_byte(place: Path) -> Checked:
    """Read every run at or below a folder from its files, whatever the index says, and set the index right."""
    files = _by_real_path([place])
    indexes = RunIndexes(files)
    before = dict(indexes.known())
    found = _read_each(files, indexes, unwatched, every_byte=True)
    after = dict(indexes.known())
    wrong = [key for key in before if isinstance(found[key], Unreadable) or after.get(key, before[key]) != before[key]]
    indexes.forget([key for key in wrong if isinstance(found[key], Unreadable)])
    runs, unreadable = _each_once(found.values())
    return Checked(runs, unreadable, [files[key].path for key in wrong])


def _each_once(found: Iterable[StoredRun | Unreadable]) -> tuple[list[StoredRun], list[Unreadable]]:
    runs: dict[str, StoredRun] = {}
    unreadable = []
    for run in found:
        if isinstance(run, Unreadable):
            unreadable.append(run)
            continue
        same = runs.setdefault(run.run_id, run)
        if same is not run:
            # Of the same run made twice, with other times, one is read, whatever the order of the places.
            runs[run.run_id] = min(same, run, key=lambda each: each.files.read(store.MANIFEST, store.LARGEST_JSON))
    return list(runs.values()), unreadable


def read_paths(paths: Iterable[Path]) -> list[StoredRun | Unreadable]:
    """Read the runs in these folders, in their order; see `read_all`."""
    real = functools.cache(os.path.realpath)
    files: dict[str, RunFiles] = {f"{real(path.parent)}/{path.name}": Folder(path) for path in paths}
    return list(_read_each(files, RunIndexes(files), unwatched).values())


def unchanged(results: Path, names: Iterable[str]) -> set[str]:
    """Return which of the runs of these names in a results folder are undamaged by the index."""
    real = os.path.realpath(results)
    named = {f"{real}/{name}": name for name in names}
    indexes = RunIndexes({key: Folder(results / name) for key, name in named.items()})
    return {named[key] for key in indexes.unchanged()}


def _by_real_path(places: Iterable[str | Path]) -> dict[str, RunFiles]:
    """Return the runs at or below the places, each once, by where they really are."""
    real, files = functools.cache(os.path.realpath), dict[str, RunFiles]()
    for place in map(Path, places):
        for each in _files_at(place):  # below a place no link is followed
            path = each.path
            files.setdefault(real(path) if path == place else f"{real(path.parent)}/{path.name}", each)
    return files


def _files_at(place: Path) -> Iterable[RunFiles]:
    if place.is_dir():
        return map(Folder, store.published_runs(place))
    if place.is_file():
        return open_pack(place).runs()
    raise UsageError(f"there is no folder or pack {place}", "Runs are stored by: clbench run --out FOLDER")


def _read_each(
    files: Mapping[str, RunFiles], indexes: RunIndexes, watch: Watch, every_byte: bool = False
) -> dict[str, StoredRun | Unreadable]:
    """Read the runs, which are given by where they really are; those that the index knows not, or every byte of all."""
    shared = Shared()
    found: dict[str, StoredRun | Unreadable] = {}
    if not every_byte:
        found |= {key: StoredRun(files[key], unpack(packed, shared)) for key, packed in indexes.known()}
    for key in watch([key for key in files if key not in found], "reading runs"):
        made = _checked(files[key])
        if isinstance(made, Unreadable):
            found[key] = made
        else:
            found[key] = StoredRun(files[key], unpack(made, shared))
            indexes.learn(key, made)
    indexes.write()
    return {key: found[key] for key in files}


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
    still = [
        failure
        for (finished, key), (tried, failure) in last.items()
        if not _finished_since(tried, finished, failure, key)
    ]
    return sorted(still, key=lambda failure: failure.run)


def _finished_since(tried: int, runs: Path, failure: Failure, key: str) -> bool:
    """Return whether a run in this folder that is the same but for the strategy's file was made later.

    Its name is then the same up to the id.
    """
    for path in runs.glob(f"{glob.escape(failure.path.name.rpartition('-')[0])}-*"):
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
    Experiences that were not evaluated have none, and none is on one that brings no class.
    """
    import pandas as pd

    from clbench.streams.splits import describe_split

    rows = []
    for run in runs:
        spec = run.spec
        fixed = (
            run.run_id,
            spec.scenario.name,
            describe_split(spec.scenario.classes_per_experience),
            spec.scenario.class_order_from,
            run.setting,
            spec.strategy.name,
            spec.strategy.preset,
            json.dumps(spec.strategy.config, sort_keys=True),
            spec.recipe.name,
            spec.seeds.run,
        )
        for setting in run.spec.scenario.readings:
            counts = run.counts(setting)
            for after, row in enumerate(counts.correct):
                for on, (correct, total) in enumerate(zip(row or (), counts.total, strict=False)):
                    if total:
                        rows.append((*fixed, setting, after, on, correct, total))
    names = ["run", "scenario", "split", "class_order", "trained", "strategy", "preset", "config", "recipe", "seed"]
    table = pd.DataFrame(rows, columns=[*names, "setting", "after", "on", "correct", "total"])
    table["accuracy"] = table["correct"] / table["total"]
    return table
