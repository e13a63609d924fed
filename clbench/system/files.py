"""Atomic writes, and reads of files that a stranger may have put there.

After a crash or a power cut a file has its old content or its new one, never a mixture.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from clbench.errors import MachineError


def from_home(path: str | os.PathLike[str]) -> str:
    """Return a path with `~` replaced by the home folder; unchanged if there is no such user."""
    return os.path.expanduser(path)  # noqa: PTH111 - which does not raise if there is none, and keeps ./


def found_at(path: Path) -> Literal["file", "folder", "other"] | None:
    """Return what is at a path that a user gives; None also if access is denied, and for an impossible path.

    `Path.is_dir()` raises for a folder that may not be entered and for a name of more than 255 bytes.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "other"


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError for a link, a pipe or a device, without opening what it leads to."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    # If something else has taken its place since, a link is refused and a pipe does not block.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


def read_plain(path: Path, most: int) -> bytes:
    """Return the content of a plain file of at most `most` bytes. Raises OSError for anything else."""
    with open_plain(path) as file:
        content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)  # read() reserves that much memory
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
    return content


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def copy_synced(source: Path, path: Path) -> None:
    """Copy a file's content and wait until it is on the disk."""
    with source.open("rb") as content, path.open("wb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A context with a new file to write, which replaces `path` atomically if nothing is raised."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Replace the content of `path`; see `replacing`."""
    with replacing(path) as file:
        file.write(content)


def publish_file(temporary: Path, path: Path) -> None:
    """Give a written file its final name in the same folder. Raises FileExistsError instead of replacing another."""
    try:
        os.link(temporary, path)
        temporary.unlink()
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        path.open("xb").close()
        temporary.replace(path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and any missing ones above it, and wait until their entries are on the disk."""
    missing = list(itertools.takewhile(lambda each: not each.exists(), (folder, *folder.parents)))
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync_folder(made.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the directory entries of `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_NOT_PLAIN = "is not a plain file or folder"


class Exposed(Exception):
    """Somebody else may have written a file: `path`, the file or a folder that holds it, is not this user's alone."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem


def read_private(path: Path, folders: Sequence[Path]) -> bytes:
    """Return the content of a file if only this user can write to it and to the `folders` that hold it.

    Raises Exposed, and FileNotFoundError.
    """
    for folder in folders:
        _require_private(folder, folder.lstat(), stat.S_ISDIR)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Exposed(path, _NOT_PLAIN) from error
        raise
    with os.fdopen(descriptor, "rb") as file:
        _require_private(path, os.fstat(descriptor), stat.S_ISREG)
        return file.read()


def require_private(path: Path) -> None:
    """Raise Exposed unless `path` is a plain file or folder that only this user can write to, and FileNotFoundError."""
    _require_private(path, path.lstat(), lambda mode: stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _require_private(path: Path, status: os.stat_result, is_right: Callable[[int], bool]) -> None:
    if not is_right(status.st_mode):
        raise Exposed(path, _NOT_PLAIN)
    if status.st_uid != os.geteuid():
        raise Exposed(path, f"belongs to another user (id {status.st_uid})")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise Exposed(path, "can be written by other users")


def check_can_be_made(folder: Path) -> None:
    """Raise MachineError if `folder`, which need not exist, cannot be made or written to; write nothing."""
    try:
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except OSError as error:
        raise MachineError(f"cannot write to {folder}: {error.strerror}", "Choose a folder with --out.") from error
    if not nearest.is_dir():
        raise MachineError(f"cannot write to {folder}: {nearest} is a file", "Choose a folder with --out.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise MachineError(f"cannot write to {folder}: permission denied", "Choose a folder with --out.")


def working_folder() -> Path:
    """Return the working folder. Raises MachineError if it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise MachineError("the working folder was removed", "Change to another one: cd FOLDER") from None
