"""Stores the files of runs: built where nobody reads, synced, published by one rename, and never written again.

results/<scenario>/<strategy>/<recipe>-seed<k>-<id>/    a finished run: its files and MANIFEST.json, written last
results/sources/<sha256>.py                             a strategy's file, once for all runs that it made
results/.work/<run id>/                                 a run in progress, with the checkpoint of its last boundary
results/.work/<run id>.under-way                        the run's name, while a process is running it
results/.work/first-<key>                               a first experience that the runs of a command share
results/.failed/<scenario>/…                            a failed run with its traceback; never read as a result
results/.damaged/<scenario>/…                           a finished run that was found changed, moved out of the way
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Set
from pathlib import Path

from filelock import FileLock

from clbench.errors import MachineError
from clbench.results import manifests
from clbench.results.pack_layout import packs_in
from clbench.system.files import (
    check_can_be_made,
    copy_synced,
    make_folder,
    open_plain,
    read_plain,
    replace_file,
    sync_folder,
    write_synced,
)

WORK, FAILED, DAMAGED = ".work", ".failed", ".damaged"
FIRST = "first-"
UNDER_WAY = ".under-way"
CHECKPOINT = "checkpoint"
"""File of a run in progress, in its folder within WORK; see runs/checkpoint.py."""

SOURCES = "sources"


def published_runs(folder: Path) -> Iterator[Path]:
    """Yield every published run at or below `folder`, in order of path, whether damaged or not."""
    return (directory for directory, names in _published(folder) if not _is_a_network(names))


def published_networks(folder: Path) -> Iterator[Path]:
    """Yield the folder of every network made by `train` or `extend` at or below `folder`, in order of path."""
    return (directory for directory, names in _published(folder) if _is_a_network(names))


def _published(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    """Yield every folder at or below `folder` that was published as a whole, with the names of its contents."""
    pending = [folder]  # a stack, since os.walk recurses into deeply nested folders before Python 3.12
    while pending:
        directory = pending.pop()
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name, reverse=True)
        except OSError:  # a folder that may not be read holds no run that could be
            continue
        names = {entry.name for entry in entries}
        if {manifests.MANIFEST, "spec.json"} & names:
            yield directory, names
            continue
        visible = [entry for entry in entries if not entry.name.startswith(".")]
        pending += [directory / entry.name for entry in visible if entry.is_dir(follow_symlinks=False)]


def _is_a_network(names: Set[str]) -> bool:
    return "network.json" in names and not {"spec.json", "predictions.npz"} & names


def own_and_nested(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders in a results folder that hold its own runs, and those nested in it: results folders, and
    folders of packs."""
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    nested = [
        entry
        for entry in inside
        if (entry / WORK).is_dir() or any((entry / SOURCES).glob("*.py")) or _holds_packs_only(entry)
    ]
    return [entry for entry in inside if entry not in nested and entry.name != SOURCES], nested


def _holds_packs_only(folder: Path) -> bool:
    return bool(packs_in(folder)) and next(published_runs(folder), None) is None


def failed_runs(folder: Path) -> Iterator[Path]:
    """Yield the folders of the failed runs that belong at or below `folder`, which may be inside a results folder."""
    folder = folder.resolve()
    for root in (folder, *folder.parents):
        if (root / FAILED).is_dir():
            yield from published_runs(root / FAILED / folder.relative_to(root))
            return


def abandoned_runs(results: Path) -> dict[Path, str]:
    """Return the runs of a results folder whose process ended without a word, by the file that records it.

    Safe in a stranger's folder: nothing is written, and only plain files are opened.
    """
    abandoned = {}
    for path in sorted((results / WORK).glob(f"*{UNDER_WAY}")):
        if path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError), path.open(errors="replace") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # fails while the process lives
            name = file.read(1000)
            if name and name.isprintable():
                abandoned[path] = name
    return abandoned


def unfinished_work(results: Path) -> dict[Path, int]:
    """Return the work folders of runs that no process is running, with the size of their files in bytes.

    Safe in a stranger's folder: nothing is written, and only plain files are opened.
    """
    folders = [path for path in sorted((results / WORK).glob("[0-9a-f]" * 64)) if _is_left(path)]
    return {path: sum(file.lstat().st_size for file in (*path.glob("*"), *path.glob("*/*"))) for path in folders}


def _is_left(work: Path) -> bool:
    if work.is_symlink() or not work.is_dir():
        return False
    try:
        with open_plain(work.with_name(f"{work.name}.lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:  # a process holds it
        return False
    return True


def source_file(results: Path, sha256: str) -> Path:
    """Return the path of the strategy file with this hash in a results folder."""
    return results / SOURCES / f"{sha256}.py"


def check_results_folder(path: Path) -> None:
    """Raise MachineError if `path` is a file, cannot be written, or holds anything but runs; write nothing."""
    try:
        if path.exists() and not path.is_dir():
            raise MachineError(f"{path} is a file, not a folder for results", "Choose a folder with --out.")
        if path.is_dir() and not _holds_runs_only(path):
            raise MachineError(
                f"{path} holds files that are not clbench runs", "Choose an empty or a new folder with --out."
            )
        check_can_be_made(path)
    except OSError as error:
        raise MachineError(f"cannot write to {path}: {error.strerror}", "Choose a folder with --out.") from error


def _holds_runs_only(path: Path) -> bool:
    visible = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if not visible or (path / WORK).is_dir() or next(published_runs(path), None) is not None:
        return True
    return any(packs_in(folder) for folder in (path, *filter(Path.is_dir, visible)))


class ResultsFolder:
    """A folder of runs that this process writes to."""

    def __init__(self, path: Path) -> None:
        """Raises MachineError if `path` is a file, cannot be written, or holds anything but runs."""
        self.path = path
        check_results_folder(path)
        try:
            make_folder(path)
            # Checkpoints are only read where nobody else can have written them; see runs/checkpoint.py.
            (path / WORK).mkdir(mode=0o700, exist_ok=True)
            if not any((path / WORK).iterdir()):  # made by an earlier version
                with contextlib.suppress(PermissionError):
                    (path / WORK).chmod(0o700)
            probe = path / WORK / f".probe-{uuid.uuid4().hex[:8]}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise MachineError(f"cannot write to {path}: {error.strerror}", "Choose a folder with --out.") from error

    def settled(self, name: str, run_id: str, unchanged: bool = False) -> Path | None:
        """Return the folder of the run `name` (see run_spec.folder_name) if nothing is left to be done for it.

        It is then published and undamaged, and its work folder is gone; no lock is needed. `unchanged` means that the
        run is known to be undamaged.
        """
        run = self.path / name
        try:
            there = (
                run.is_dir()
                and (unchanged or manifests.damage(run) is None)
                and not (self.path / WORK / run_id).exists()
            )
        except OSError:  # the process that then tries to run it meets the problem
            return None
        return run if there else None

    def published(self, name: str, tell: Callable[[str], None]) -> Path | None:
        """Return the folder of the run `name` if it is published and undamaged; only for the holder of its lock.

        A damaged one is moved to `.damaged`, so that the run can be done again and nothing is lost; `tell` gets a
        sentence on it.
        """
        run = self.path / name
        if not run.is_dir():
            return None
        damage = manifests.damage(run)
        if damage is None:
            return run
        aside = self.path / DAMAGED / f"{name}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        run.rename(aside)
        tell(f"{run} was damaged ({damage}), and is now in {aside}")
        return None

    def work(self, run_id: str) -> Path:
        """Return the folder in which a run is built."""
        folder = self.path / WORK / run_id
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def lock(self, run_id: str) -> FileLock:
        """Return the lock of a run; the system releases it when its holder dies."""
        return FileLock(self.path / WORK / f"{run_id}.lock")

    @contextlib.contextmanager
    def under_way(self, name: str, run_id: str) -> Iterator[None]:
        """In this context, a file records that the run `name` is under way; it stays if the process is killed."""
        path = self.path / WORK / f"{run_id}{UNDER_WAY}"
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the system releases it when the process dies
            file.write(name)
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def abandoned(self) -> list[str]:
        """Return the names of the runs whose process ended without a word, and remove the files that record it."""
        abandoned = abandoned_runs(self.path)
        for path in abandoned:
            path.unlink(missing_ok=True)
        return list(abandoned.values())

    def first_experience(self, key: str) -> Path:
        """Return the file of a first experience that several runs share."""
        return self.path / WORK / f"{FIRST}{key}"

    def discard_first_experiences(self) -> None:
        """Remove the first experiences that were kept for runs to share; a run that misses one trains it itself."""
        for pattern in (f"{FIRST}*", f".{FIRST}*"):  # and what a process that was killed had begun to write
            for path in (self.path / WORK).glob(pattern):
                path.unlink(missing_ok=True)

    def discard_work(self, run_id: str) -> None:
        """Remove what a published run leaves in the work folder."""
        shutil.rmtree(self.path / WORK / run_id, ignore_errors=True)
        (self.path / WORK / f"{run_id}.lock").unlink(missing_ok=True)

    def keep_source(self, content: bytes) -> None:
        """Store a strategy's file under its hash; several processes may do so at once."""
        path = source_file(self.path, hashlib.sha256(content).hexdigest())
        make_folder(path.parent)
        with contextlib.suppress(OSError):  # there is none yet, or something that is not a file
            if read_plain(path, len(content)) == content:
                return
        replace_file(path, content)

    def publish(self, name: str, run_id: str, files: manifests.Files) -> Path:
        """Write the files and their manifest, and make them the run `name` by one rename; return its folder.

        If another process has published the same run in the meantime, that one stays.
        """
        target = self.path / name
        built = self._build(run_id, files)
        make_folder(target.parent)
        try:
            built.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        sync_folder(target.parent)
        self.discard_work(run_id)
        shutil.rmtree(self.path / FAILED / name, ignore_errors=True)
        return target

    def keep_failure(self, name: str, run_id: str, files: manifests.Files) -> Path:
        """Store a failed run apart, replacing its earlier failure if there was one; return its folder."""
        target = self.path / FAILED / name
        built = self._build(run_id, files)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        built.rename(target)
        return target

    def _build(self, run_id: str, files: manifests.Files) -> Path:
        built = self.work(run_id) / "built"
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir()
        for file, content in files.items():
            if isinstance(content, Path):
                copy_synced(content, built / file)
            else:
                write_synced(built / file, content)
        write_synced(built / manifests.MANIFEST, manifests.of(files))
        sync_folder(built)
        return built
