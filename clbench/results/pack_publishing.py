"""Publishes the runs of a pack in a results folder, each by one rename, and replaces none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import Timeout

from clbench.errors import MachineError
from clbench.results import manifests
from clbench.results.pack import PackedRun, open_pack
from clbench.results.run_files import Folder
from clbench.results.run_spec import folder_name, run_id
from clbench.results.store import ResultsFolder
from clbench.results.stored_run import StoredRun, Unreadable, predictions
from clbench.results.stored_runs import Watch, faulty_sources, read_files, unwatched

_PATIENCE = 5
"""Seconds to wait for another process: unpacking a run takes less, training it nearly always more."""

SAME_IN_EQUAL_RUNS = ("spec.json", "result.json")
"""Files whose bytes are the same whenever and wherever a run is made; seconds and versions are in others.

The arrays of predictions.npz are the same, too, but different builds of zlib compress them differently.
"""


@dataclass
class Unpacked:
    """What happened to the runs of a pack, by name."""

    published: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    """Runs that were in the results folder already, and stay as they were."""

    damaged: list[str] = field(default_factory=list)
    """Which runs were there, but damaged, and where they are now; a sentence each."""

    without_source: list[str] = field(default_factory=list)
    """Which files of strategies are not there, because the pack lacks them or has others; a line each."""

    left_out: list[str] = field(default_factory=list)
    """Why runs are not in the results folder as the pack has them, one line each."""


def unpack(path: Path, out: Path, watch: Watch = unwatched) -> Unpacked:
    """Publish the runs of the pack `path` in the results folder `out`. It may be killed at any time and run again.

    Existing runs are never replaced. A run of the pack that is not as it was published is left out, and so is one that
    is there with another result or is being run by another process. Raises DataError for a file that is not a pack,
    and MachineError if `out` cannot be written or the disk is full.
    """
    pack, done = open_pack(path), Unpacked()
    try:
        results = ResultsFolder(out)
        for files in watch(pack.runs(), "unpacking"):
            run = read_files(files)
            if isinstance(run, Unreadable):
                done.left_out.append(str(run))
            else:
                _publish(run, files, results, done)
    except OSError as error:
        raise MachineError(
            f"cannot write to {out}: {error.strerror or error}. The runs that were published are complete.",
            "Free disk space or fix the folder, then run the same command again to continue.",
        ) from error
    return done


def _publish(run: StoredRun, files: PackedRun, results: ResultsFolder, done: Unpacked) -> None:
    name, identity = folder_name(run.spec), run_id(run.spec)
    lock = results.lock(identity)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        done.left_out.append(f"{name}: another process is doing it; unpack again when it has finished")
        return
    try:
        if there := results.published(name, done.damaged.append):
            results.discard_work(identity)
            if _same(Folder(there), files):
                done.there.append(name)
            else:
                done.left_out.append(f"{name}: {there} has another result, and is not replaced")
            return
        if (source := run.source) is not None:
            results.keep_source(source)
        else:
            done.without_source += [fault for fault in faulty_sources([run]) if fault not in done.without_source]
        with _copies(files, results.work(identity)) as copies:
            results.publish(name, identity, copies)
        done.published.append(name)
    finally:
        lock.release()


def _same(there: Folder, packed: PackedRun) -> bool:
    import numpy as np

    if isinstance(read_files(there), Unreadable):
        return False
    if any(
        there.read(name, manifests.LARGEST_JSON) != packed.read(name, manifests.LARGEST_JSON)
        for name in SAME_IN_EQUAL_RUNS
    ):
        return False
    ours, others = predictions(there), predictions(packed)
    return ours.keys() == others.keys() and all(
        ours[name].dtype == others[name].dtype and np.array_equal(ours[name], others[name]) for name in ours
    )


@contextlib.contextmanager
def _copies(files: PackedRun, work: Path) -> Iterator[dict[str, bytes | Path]]:
    """In this context, a run's files except its manifest are in the `work` folder: networks may not fit into memory."""
    folder = work / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir()
    try:
        for name in files.files:
            if name != manifests.MANIFEST:
                with (folder / name).open("wb") as file:
                    file.writelines(files.blocks(name))
        yield {path.name: path for path in folder.iterdir()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
