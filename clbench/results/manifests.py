"""The manifest of a published run, which lists its files with sizes and hashes, and the check of a run against it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from clbench.results.record_model import Record, as_json
from clbench.system.files import open_plain, read_plain

MANIFEST = "MANIFEST.json"

LARGEST_JSON = 2**26
LARGEST_RUN = 2**33
"""The most bytes that are read from a JSON file, and from all files of a run: a stranger may have sent any number."""


class ManifestEntry(Record):
    """What a manifest records about a file."""

    size: Annotated[int, Field(ge=0)]
    """In bytes."""

    sha256: str
    """Hash of its content."""


class Manifest(Record):
    """The files of a run. Written last, so that a folder without it is not a run."""

    schema_number: Literal[1] = Field(default=1, alias="schema")
    """Version of this record's shape."""

    files: dict[str, ManifestEntry]
    """By name."""


Files = Mapping[str, bytes | Path]
"""The files of a run by name: their content, or the path of a copy."""


def of(files: Files) -> bytes:
    """Return the manifest of a run: size and SHA-256 of each of its files."""
    return of_sizes({name: _size_and_hash(content) for name, content in files.items()})


SizeAndHash = tuple[int, str]
"""A file's size in bytes and its SHA-256."""


def of_sizes(files: Mapping[str, SizeAndHash]) -> bytes:
    """Return the manifest of a run with these files."""
    entries = {name: {"size": size, "sha256": sha256} for name, (size, sha256) in sorted(files.items())}
    return as_json({"schema": 1, "files": entries})


def _size_and_hash(content: bytes | Path) -> SizeAndHash:
    if isinstance(content, bytes):
        return len(content), hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
        return file.tell(), digest.hexdigest()


def listed(folder: Path) -> Mapping[str, ManifestEntry]:
    """Return the files that a manifest lists, by name; none if it is missing or damaged."""
    try:
        return Manifest.model_validate_json(read_plain(folder / MANIFEST, LARGEST_JSON)).files
    except (OSError, ValueError):
        return {}


def damage(run: Path, others_allowed: bool = False) -> str | None:
    """Return what is wrong with a published run's files, or None if each matches the manifest.

    Files that are not in the manifest are wrong unless `others_allowed`.

    Only plain files in the run's own folder are opened, whatever the manifest lists.
    """
    try:
        files = Manifest.model_validate_json(read_plain(run / MANIFEST, LARGEST_JSON)).files
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except ValidationError as error:
        return f"{MANIFEST} is not valid: {error.errors(include_url=False)[0]['msg']}"
    except (OSError, ValueError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__}: {error})"
    left = LARGEST_RUN
    for name, entry in files.items():
        left -= entry.size
        if problem := _difference(run, name, entry) if left >= 0 else f"its files have more than {LARGEST_RUN:,} bytes":
            return problem
    try:
        extra = sorted({path.name for path in run.iterdir()} - set(files) - {MANIFEST})
    except OSError as error:
        return f"its folder cannot be read ({error.strerror})"
    return f"{extra[0]} is not in {MANIFEST}" if extra and not others_allowed else None


def _difference(run: Path, name: str, entry: ManifestEntry) -> str | None:
    """Return how a file differs from its entry in the manifest, or None."""
    if name in ("", ".", "..") or "/" in name:
        return f"{MANIFEST} lists '{name}', which is outside the run's folder"
    digest = hashlib.sha256()
    try:
        with open_plain(run / name) as file:
            same = os.fstat(file.fileno()).st_size == entry.size
            while same and (block := file.read(2**20)):
                digest.update(block)
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    except ValueError as error:  # a name that no file can have
        return f"{MANIFEST} lists '{name}' ({error})"
    return None if same and digest.hexdigest() == entry.sha256 else f"{name} does not match {MANIFEST}"
