"""The files of a stored run, wherever they lie: in a folder of its own, or in a pack (see pack.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clbench.results import store
from clbench.system.files import open_plain, read_plain


class RunFiles(Protocol):
    """The files of one run."""

    @property
    def path(self) -> Path:
        """Where they are, as it is shown; of a pack `study.zip/splitdigits/lwf/quick-seed0-1234abcd`."""

    def damage(self) -> str | None:
        """Return what is wrong with them, or None if each is as the run's manifest says."""

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file of at most `most` bytes. Raises OSError for anything else."""

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a file, however large. Raises OSError if there is none."""

    def source(self, sha256: str) -> bytes:
        """Return what is stored as the strategy's file of this hash. Raises OSError if nothing is."""


@dataclass(frozen=True)
class Folder:
    """The files of a run in a folder of a results folder."""

    path: Path

    def damage(self) -> str | None:
        """See `store.damage`."""
        return store.damage(self.path)

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
        return read_plain(store.source_file(folders[2], sha256), store.LARGEST_JSON)
