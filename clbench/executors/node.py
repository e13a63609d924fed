"""Executes runs on a machine for a command on another one, with which it shares no files.

Runs are built in a private folder for the command on this machine, as in any results folder, and their files are sent
back. So are their checkpoints, after every experience. A run is executed in a worker process, which imports torch;
nothing here does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from clbench.base.events import CheckpointSaved, Event, RunFailed, RunFinished, RunSkipped
from clbench.data.datasets import BUILTIN, data_folder, describe, fetch
from clbench.errors import ClbenchError, DataError, MachineError
from clbench.executors.parcel import Parcel, opened
from clbench.executors.worker import Died, Worker
from clbench.results import environment, manifests
from clbench.results.run_spec import RunSpec, folder_name, run_id
from clbench.results.store import CHECKPOINT, ResultsFolder
from clbench.runs.outcome import Outcome
from clbench.system.files import replacing


@dataclass(frozen=True)
class Terms:
    """What a command requires of the machines that execute its runs."""

    command: str
    """Identifies the command."""

    executor: str
    versions: Mapping[str, str | None]
    """Those of the machine on which the command was given."""

    allow_mixed: bool
    share: bool
    data: str | None
    """The data folder, if it was named; otherwise each machine's own."""


@dataclass(frozen=True)
class Done:
    """The outcome of a run."""

    status: str
    """`finished`, `failed` or `diverged`."""

    message: str
    files: Mapping[str, bytes]
    """The run's files by name, including its manifest; none if its process died."""


Checkpoint = Mapping[str, bytes]
"""The files of a work folder by name."""


def differing_versions(terms: Terms) -> str:
    """Return how this machine's packages differ from the command's, as `torch 2.4.0 (not 2.5.1)`; or nothing."""
    own = environment.versions()
    return ", ".join(
        f"{name} {own[name] or 'not installed'} (not {wanted})"
        for name, wanted in terms.versions.items()
        if own[name] != wanted
    )


def node_data(terms: Terms) -> Path:
    """Return this machine's data folder."""
    return data_folder(None if terms.data is None else Path(terms.data))


def check_node(terms: Terms, datasets: Mapping[str, str]) -> None:
    """Raise unless this machine can execute runs on `datasets` (hashes by name); built-in ones are fetched first.

    Raises MachineError for other versions, and DataError for a dataset that is missing and that this machine cannot
    fetch by itself, or that is a different one with the same name.
    """
    if (differing := differing_versions(terms)) and not terms.allow_mixed:
        raise MachineError(
            f"{name()}: {differing}. Its runs might not be bit-identical to the others.",
            "Install the same versions there, or accept it: --allow-mixed.",
        )
    folder = node_data(terms)
    for dataset, sha256 in datasets.items():
        info = describe(dataset, folder)
        if info is None and dataset in BUILTIN:
            try:
                info = fetch(dataset, folder)
            except ClbenchError as error:
                fix = f"On that machine: clbench data fetch {dataset}"
                raise DataError(f"{name()}: {error.message}", f"{error.hint}\n{fix}" if error.hint else fix) from error
        if info is None:
            raise DataError(
                f"{name()}: there is no dataset '{dataset}' in {folder}",
                f"On that machine: clbench data import {dataset} PATH\n"
                f"Or copy the folder arrays/{dataset} of this machine's data folder there.",
            )
        if info.sha256 != sha256:
            raise DataError(
                f"{name()}: the dataset '{dataset}' in {folder} has other images than the one here",
                f"On that machine, remove {folder}/arrays/{dataset}, then import or fetch it again.",
            )


def name() -> str:
    """Return the name of this machine in messages."""
    return f"node {platform.node()}"


class Node:
    """Executes the parcels of one command on this machine, one after another, in a worker process."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._folder, self._held = _held_folder(terms.command)
        self._results = ResultsFolder(self._folder / "results")
        self._worker: Worker | None = None
        self._devices = os.environ.get("CUDA_VISIBLE_DEVICES")

    def do(
        self,
        parcel: Parcel,
        content: Callable[[str], bytes],
        resume: Checkpoint,
        on_event: Callable[[Event], None],
        on_checkpoint: Callable[[Checkpoint], None],
    ) -> Done:
        """Execute a run from the checkpoint `resume`; pass on its events and checkpoints, and return its files.

        Raises DataError, MachineError and the other errors that concern more than this run.
        """
        spec = RunSpec.model_validate(parcel.spec)
        check_node(self.terms, {spec.scenario.dataset: spec.scenario.dataset_sha256})
        data = node_data(self.terms)
        run = opened(parcel, self._folder / "plugins", data, content)
        identity = run_id(spec)
        with self._results.lock(identity):
            shutil.rmtree(self._results.path / folder_name(spec), ignore_errors=True)
            shutil.rmtree(self._results.work(identity))  # of an attempt whose process was killed
            work = self._results.work(identity)
            lay_checkpoint(work, resume)
        sent = {path.name: path.stat().st_mtime_ns for path in work.iterdir()}

        def notify(event: Event) -> None:
            if isinstance(event, CheckpointSaved):
                with contextlib.suppress(FileNotFoundError):  # the run has ended meanwhile
                    on_checkpoint(_changed(work, sent))
            if not isinstance(event, RunFinished | RunFailed | RunSkipped):  # the command reports how the run ended
                on_event(event)

        worker = self._started(data)
        worker.notify = notify
        try:
            outcome = worker.execute(run, self._results.path, wait=True)
        except Died as death:
            self._worker = None
            return Done("failed", f"its worker process ended with {death}", {})
        except BaseException:
            worker.kill()
            self._worker = None
            raise
        assert outcome is not None
        return self._handed_over(outcome)

    def close(self) -> None:
        """End the worker process, and release the folder."""
        if self._worker:
            self._worker.end(stop=False)
            self._worker.ended()
            self._worker = None
        self._held.close()

    def _started(self, data: Path) -> Worker:
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        if self._worker and devices != self._devices:  # this process was given another GPU, and torch keeps the first
            self._worker.end(stop=False)
            self._worker.ended()
            self._worker = None
        if self._worker is None:
            self._devices = devices
            self._worker = Worker(data, self.terms.share, lambda event: None, self.terms.executor)
        return self._worker

    def _handed_over(self, outcome: Outcome) -> Done:
        files = {path.name: path.read_bytes() for path in sorted(outcome.path.iterdir())}
        shutil.rmtree(outcome.path)
        return Done("finished" if outcome.status == "skipped" else outcome.status, outcome.message, files)


def lay_checkpoint(work: Path, files: Checkpoint) -> None:
    """Put the files of a checkpoint into a work folder; the one that records the progress comes last."""
    for file in sorted(files, key=lambda file: file == CHECKPOINT):
        with replacing(work / file) as target:
            os.fchmod(target.fileno(), 0o600)  # what others can write is not read again
            target.write(files[file])


def checkpoint_in(work: Path) -> Checkpoint:
    """Return the files of the checkpoint in a work folder, while its run may continue; none if there is none."""
    if not (work / CHECKPOINT).is_file():
        return {}
    return _changed(work, {})


def _changed(work: Path, sent: dict[str, int]) -> Checkpoint:
    """Return the files of a checkpoint that have changed since they were `sent`, and note that they are sent."""
    # The one that records the progress comes first: what the others have beyond that does no harm.
    names = sorted((path.name for path in work.iterdir() if path.is_file()), key=lambda name: name != CHECKPOINT)
    changed = {}
    for file in names:
        if file.startswith("."):  # being written
            continue
        modified = (work / file).stat().st_mtime_ns
        if sent.get(file) != modified:
            changed[file], sent[file] = (work / file).read_bytes(), modified
    return changed


def clear_node(command: str) -> None:
    """Remove the folder of a command on this machine, and those of commands whose processes have all ended."""
    top = _top()
    for folder in top.iterdir() if top.is_dir() else ():
        with contextlib.suppress(OSError), (folder / "held").open("w") as held:
            if folder.name != command:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while a process of the command lives
            shutil.rmtree(folder, ignore_errors=True)


def _top() -> Path:
    return Path(tempfile.gettempdir()) / f"clbench-{os.getuid()}"


def _held_folder(command: str) -> tuple[Path, IO[str]]:
    """Return this machine's folder for a command, and a file that holds it: nobody removes it until that is closed."""
    while True:
        folder = _private_folder(command)
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as unless_it_is_held:
            held = unless_it_is_held.enter_context((folder / "held").open("w"))
            fcntl.flock(held, fcntl.LOCK_SH)
            # Another command may have removed the folder while nobody held it.
            if os.path.samestat(os.fstat(held.fileno()), (folder / "held").stat()):
                unless_it_is_held.pop_all()
                return folder, held


def _private_folder(command: str) -> Path:
    """Return this machine's folder for a command. Raises MachineError if it could be another user's."""
    folder = _top() / command
    try:
        for each in (_top(), folder):
            each.mkdir(mode=0o700, exist_ok=True)
            status = each.lstat()
            if each.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise MachineError(f"{name()}: {each} is not private to this user", "Remove it, or set TMPDIR.")
    except OSError as error:
        raise MachineError(f"{name()}: cannot write to {folder}: {error.strerror}", "Set TMPDIR.") from error
    return folder


def intact(files: Mapping[str, bytes]) -> bool:
    """Return whether files that came from another machine are those that their manifest lists, byte for byte."""
    return manifests.MANIFEST in files and files[manifests.MANIFEST] == manifests.of(
        {name: content for name, content in files.items() if name != manifests.MANIFEST}
    )
