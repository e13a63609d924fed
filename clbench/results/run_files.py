"""Access to the files of a stored run, whether they are in a folder or in a pack."""

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
    """A cheap summary of a run's files, which changes when they do."""

    digest: bytes
    """Hash of the manifest's bytes and of the name, kind, size and times of every file."""

    newest: float
    """When a file was last changed, in seconds since 1970."""


class RunFiles(Protocol):
    """The files of one run."""

    @property
    def path(self) -> Path:
        """Where they are, as shown to the user."""

    def damage(self) -> str | None:
        """Return what is wrong with them, or None if each matches the run's manifest."""

    def fingerprint(self) -> Fingerprint | None:
        """Return a summary that changes whenever a file does, without reading them all; None if there is none."""

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file of at most `most` bytes. Raises OSError for anything else."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a file, however large. Raises OSError if there is none."""

    def source(self, sha256: str) -> bytes:
        """Return what is stored as the strategy file with this hash. Raises OSError if nothing is."""


_UNFOLLOWED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How thousands of files from a stranger are opened: links are not followed, and pipes not waited for."""


@dataclass(frozen=True)
class Folder:
    """The files of a run in a folder of a results folder."""

    path: Path

    def damage(self) -> str | None:
        """See `manifests.damage`."""
        return manifests.damage(self.path)

    def fingerprint(self) -> Fingerprint | None:
        """Return the fingerprint; None for a folder that has no manifest or cannot be read.

        The time of a file's last change of any kind (ctime) is set by the system, never by a program: it also differs
        for a file that was changed and then given its old size and time of modification.
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
        """Return what the results folder stores under this hash."""
        folders = self.path.resolve().parents
        if len(folders) < 3:
            raise FileNotFoundError(f"{self.path} is not in a results folder")
        return read_plain(store.source_file(folders[2], sha256), manifests.LARGEST_JSON)
