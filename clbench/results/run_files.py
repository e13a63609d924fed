"""The files of a stored run, wherever they lie: in a folder of its own, or in a pack."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from clbench.results import manifests, store
from clbench.system.files import open_plain, read_plain


class Fingerprint(NamedTuple):
    """What a run's files look like from outside; it changes with them."""

    digest: bytes
    """Of the manifest's bytes, and of the name, kind, size and times of every file."""

    newest: float
    """When a file was changed last, in seconds since 1970."""


class RunFiles(Protocol):
    """The files of one run."""

    @property
    def path(self) -> Path:
        """Where they are, as it is shown."""

    def damage(self) -> str | None:
        """Return what is wrong with them, or None if each is as the run's manifest says."""

    def fingerprint(self) -> Fingerprint | None:
        """Return what changes whenever a file does, without reading them all; None if that is not known."""

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file of at most `most` bytes. Raises OSError for anything else."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a file, however large. Raises OSError if there is none."""

    def source(self, sha256: str) -> bytes:
        """Return what is stored as the strategy's file of this hash. Raises OSError if nothing is."""


_UNFOLLOWED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a stranger's file is opened where thousands are looked at: no link is followed, and no pipe waited for."""


@dataclass(frozen=True)
class Folder:
    """The files of a run in a folder of a results folder."""

    path: Path

    def damage(self) -> str | None:
        """See `manifests.damage`."""
        return manifests.damage(self.path)

    def fingerprint(self) -> Fingerprint | None:
        """Return it; None for a folder that has no manifest or cannot be read.

        The time of a file's last change of any kind (ctime) is the system's, and no program sets it: a file that was
        changed and given back its size and its time of modification has another.
        """
        place, seen, newest = str(self.path), [], 0
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    mtime, ctime = status.st_mtime_ns, status.st_ctime_ns
                    seen.append(f"{entry.name!r} {status.st_mode} {status.st_size} {mtime} {ctime}")
                    newest = max(newest, mtime, ctime)
            manifest = os.open(f"{place}/{manifests.MANIFEST}", _UNFOLLOWED)
            try:
                content = os.read(manifest, min(os.fstat(manifest).st_size, manifests.LARGEST_JSON))
            finally:
                os.close(manifest)
        except OSError:
            return None
        look = "\n".join(sorted(seen)).encode()
        return Fingerprint(hashlib.blake2b(look + content, digest_size=16).digest(), newest / 1e9)

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a plain file."""
        return read_plain(self.path / name, most)

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a plain file."""
        with open_plain(self.path / name) as file:
            while block := file.read(2**20):
                yield block

    def source(self, sha256: str) -> bytes:
        """Return what the results folder has under this hash."""
        folders = self.path.resolve().parents
        if len(folders) < 3:
            raise FileNotFoundError(f"{self.path} is in no results folder")
        return read_plain(store.source_file(folders[2], sha256), manifests.LARGEST_JSON)
