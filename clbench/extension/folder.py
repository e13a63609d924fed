"""The output folder of `train` and `extend`: built elsewhere, published by one rename, and never changed afterwards.

OUT/                 the finished network, with result.json, report.html and MANIFEST.json, written last
.OUT.work/<id>/      what a strategy has made; the same command reuses it
.OUT.work/*.npy      images that do not fit in memory, while a process is running
.OUT.lock            while a process is running
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from clbench.errors import DataError, MachineError, UsageError
from clbench.results import manifests
from clbench.results.extension_result import ExtensionResult
from clbench.system.files import check_can_be_made, found_at, from_home, read_plain, sync_folder, write_synced
from clbench.system.signals import Interrupted

RESULT = "result.json"
REPORT = "report.html"


class OutputFolder:
    """The folder of one command."""

    def __init__(self, out: Path) -> None:
        # Resolved, so that `model/`, `./model` and `model` are one folder.
        self.path = Path(from_home(out)).absolute()
        self.work = self.path.parent / f".{self.path.name}.work"  # not with_name, which / does not have

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder, so that no other process writes it. Raises MachineError if one does, or the disk is full."""
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise MachineError(
                    f"another process is writing {self.path}", "Wait for it, or choose another --out."
                ) from None
            try:
                self.work.mkdir(exist_ok=True)
                self._drop_unfinished()  # of a command that was killed
                yield
            except Interrupted as stopped:
                stopped.kept = self._has_kept()
                raise
            finally:
                with contextlib.suppress(OSError):
                    self._drop_unfinished()
                    self.work.rmdir()  # fails if it holds something to keep
                with contextlib.suppress(OSError):
                    Path(lock.lock_file).unlink()  # while it is held: afterwards it may be another's
                lock.release()
        except OSError as error:
            kept = f" What was finished is kept in {self.work}." if self._has_kept() else ""
            raise MachineError(
                f"{self.path}: {error.strerror or error}.{kept}",
                "Free disk space, make the folder writable or choose another by --out, then rerun the same command.",
            ) from error

    def _drop_unfinished(self) -> None:
        """Remove what only the running command used: images, and unfinished files."""
        for path in self.work.iterdir():
            if path.is_file():
                path.unlink()
            elif not (path / manifests.MANIFEST).is_file():
                shutil.rmtree(path)

    def _has_kept(self) -> bool:
        """Return whether any strategy has finished; unfinished ones are not kept."""
        return any(self.work.glob(f"*/{manifests.MANIFEST}"))

    def finished(self, identity: str) -> ExtensionResult | None:
        """Return the result if this very command has finished.

        Raises UsageError if the folder has other content, and DataError if its files are damaged.
        """
        if not os.path.lexists(self.path):
            return None
        there = None
        with contextlib.suppress(DataError):
            there = read_result(self.path)
        if there is not None and there.id == identity:
            # Something that the user put there does no harm.
            if (problem := manifests.damage(self.path, others_allowed=True)) is not None:
                raise DataError(
                    f"{self.path} was finished by this command, but is damaged: {problem}",
                    "Remove it, and rerun the same command.",
                )
            shutil.rmtree(self.work, ignore_errors=True)  # left over if the command was killed right after publishing
            return there
        raise UsageError(f"{self.path} exists, and is not replaced", "Choose another folder: --out DIR")

    def check(self) -> None:
        """Raise UsageError if the folder has anything but an earlier command's result, and MachineError if it cannot be
        created."""
        if found_at(self.path / RESULT) == "file":
            return
        if os.path.lexists(self.path):
            raise UsageError(f"{self.path} exists, and is not replaced", "Choose another folder: --out DIR")
        check_can_be_made(self.path)

    def kept(self, identity: str) -> Path | None:
        """Return the folder with the result of a strategy, if it has finished."""
        place = self.work / identity
        return place if place.is_dir() and manifests.damage(place) is None else None

    def keep(self, identity: str, files: Mapping[str, bytes]) -> Path:
        """Store the result of a strategy until the command ends."""
        place = self.work / identity
        self._build(place, files)
        return place

    def publish(self, files: Mapping[str, bytes]) -> Path:
        """Write the whole folder at once, and remove the work folder."""
        self._build(self.path, files)
        shutil.rmtree(self.work, ignore_errors=True)
        return self.path

    def _build(self, place: Path, files: Mapping[str, bytes]) -> None:
        temporary = self.work / f".{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir(parents=True)
            for name, content in {**files, manifests.MANIFEST: manifests.of(files)}.items():
                write_synced(temporary / name, content)
            sync_folder(temporary)
            if place.is_dir() and place.parent == self.work:  # damaged
                shutil.rmtree(place)
            temporary.rename(place)
            sync_folder(place.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def read_result(folder: Path) -> ExtensionResult:
    """Return the result in a folder. Raises DataError if there is none, or a damaged one."""
    path = folder / RESULT
    try:
        return ExtensionResult.model_validate_json(read_plain(path, manifests.LARGEST_JSON))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
