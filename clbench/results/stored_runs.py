"""Reads stored runs from folders and packs, and checks them.

If there are many, what was read once is taken from an index (see run_index.py) as long as the files look unchanged.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.errors import UsageError
from clbench.results import manifests, store
from clbench.results.pack import open_pack
from clbench.results.run_checks import checked
from clbench.results.run_facts import Shared, facts_of
from clbench.results.run_files import Folder, RunFiles
from clbench.results.run_index import RunIndexes
from clbench.results.stored_run import StoredRun, Unreadable
from clbench.system.files import found_at
from clbench.system.suggestions import did_you_mean_path


def read(path: Path) -> StoredRun | Unreadable:
    """Read the run in the folder `path` and check it completely. Runs no code from it: it is JSON and arrays."""
    return read_files(Folder(path))


def read_files(files: RunFiles) -> StoredRun | Unreadable:
    """Read the run that consists of these files and check it completely, as `read` does."""
    found = checked(files)
    return found if isinstance(found, Unreadable) else StoredRun(files, facts_of(found, Shared()))


RESULTS = Path("results")
"""Where runs are stored and looked for if no folder is named."""


def usual_places() -> tuple[list[Path], list[Path]]:
    """Return the folders to read if none is named, which hold the runs in `results`, and those that are left out.

    The latter are results folders inside it, such as the reference runs of a checkout.
    """
    if not RESULTS.is_dir():
        return [RESULTS], []
    own, nested = store.own_and_nested(RESULTS)
    return (own, nested) if nested else ([RESULTS], [])


Watch = Callable[[Sequence[Any], str], Iterable[Any]]
"""Yields the items of a sequence one by one, and may show the progress of the task that is named."""


def unwatched(items: Sequence[Any], what: str) -> Iterable[Any]:
    """Return the items, and show no progress."""
    return items


def read_all(places: Iterable[str | Path], watch: Watch = unwatched) -> tuple[list[StoredRun], list[Unreadable]]:
    """Read every run at or below the given folders and in the given packs, each once.

    Raises UsageError for a place that does not exist, and DataError for a file that is not a pack. Runs that are not
    known from an index are taken through `watch`, which may show the progress.
    """
    files = _by_real_path(places)
    return _each_once(_read_each(files, RunIndexes(files), watch).values())


@dataclass(frozen=True)
class Checked:
    """Runs of which every byte was read."""

    runs: list[StoredRun]
    unreadable: list[Unreadable]
    index_was_wrong: list[Path]
    """Runs that the index described differently, although their files looked unchanged."""


def check_every_byte(place: Path) -> Checked:
    """Read every run at or below a folder from its files, whatever the index says, and correct the index."""
    files = _by_real_path([place])
    indexes = RunIndexes(files)
    before = dict(indexes.known())
    found = _read_each(files, indexes, unwatched, every_byte=True)
    after = dict(indexes.known())
    wrong = [key for key in before if isinstance(found[key], Unreadable) or after.get(key, before[key]) != before[key]]
    indexes.forget([key for key in wrong if isinstance(found[key], Unreadable)])
    runs, unreadable = _each_once(found.values())
    return Checked(runs, unreadable, [files[key].path for key in wrong])


def faulty_sources(runs: Iterable[StoredRun]) -> Iterator[str]:
    """Yield which stored files of strategies are missing or changed. They are only shown: no number depends on them."""
    asked = set()
    for run in runs:
        strategy, place = run.spec.strategy, run.path.parent.parent.parent
        if (place, strategy.sha256) not in asked:
            asked.add((place, strategy.sha256))
            if problem := run.source_problem:
                yield f"the file of {strategy.name} in {place}, {store.SOURCES}/{strategy.sha256}.py, {problem}"


def _each_once(found: Iterable[StoredRun | Unreadable]) -> tuple[list[StoredRun], list[Unreadable]]:
    runs: dict[str, StoredRun] = {}
    unreadable = []
    for run in found:
        if isinstance(run, Unreadable):
            unreadable.append(run)
            continue
        same = runs.setdefault(run.run_id, run)
        if same is not run:
            # If the same run was made twice, with other times, the choice does not depend on the order of the places.
            runs[run.run_id] = min(
                same, run, key=lambda each: each.files.read(manifests.MANIFEST, manifests.LARGEST_JSON)
            )
    return list(runs.values()), unreadable


def read_paths(paths: Iterable[Path]) -> list[StoredRun | Unreadable]:
    """Read the runs in these folders, in their order; see `read_all`."""
    real = functools.cache(os.path.realpath)
    files: dict[str, RunFiles] = {f"{real(path.parent)}/{path.name}": Folder(path) for path in paths}
    return list(_read_each(files, RunIndexes(files), unwatched).values())


def unchanged(results: Path, names: Iterable[str]) -> set[str]:
    """Return which of the runs with these names in a results folder are undamaged according to the index."""
    real = os.path.realpath(results)
    named = {f"{real}/{name}": name for name in names}
    indexes = RunIndexes({key: Folder(results / name) for key, name in named.items()})
    return {named[key] for key in indexes.unchanged()}


def _by_real_path(places: Iterable[str | Path]) -> dict[str, RunFiles]:
    """Return the runs at or below the places, each once, by its real path."""
    real, files = functools.cache(os.path.realpath), dict[str, RunFiles]()
    for place in map(Path, places):
        for each in _files_at(place):  # below a place, links are not followed
            path = each.path
            files.setdefault(real(path) if path == place else f"{real(path.parent)}/{path.name}", each)
    return files


def _files_at(place: Path) -> Iterable[RunFiles]:
    kind = found_at(place)
    if kind == "folder":
        return map(Folder, store.published_runs(place))
    if kind == "file":
        return open_pack(place).runs()
    raise UsageError(
        f"there is no folder or pack {place}{did_you_mean_path(place)}", "Runs are stored by: clbench run --out FOLDER"
    )


def _read_each(
    files: Mapping[str, RunFiles], indexes: RunIndexes, watch: Watch, every_byte: bool = False
) -> dict[str, StoredRun | Unreadable]:
    """Read the runs, given by their real paths: those that the index does not know, or every byte of all."""
    shared = Shared()
    found: dict[str, StoredRun | Unreadable] = {}
    if not every_byte:
        found |= {key: StoredRun(files[key], facts_of(row, shared)) for key, row in indexes.known()}
    for key in watch([key for key in files if key not in found], "reading runs"):
        made = checked(files[key])
        if isinstance(made, Unreadable):
            found[key] = made
        else:
            found[key] = StoredRun(files[key], facts_of(made, shared))
            indexes.learn(key, made)
    indexes.write()
    return {key: found[key] for key in files}
