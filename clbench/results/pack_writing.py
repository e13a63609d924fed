"""Writes a pack: the same runs give the same bytes, whatever their order, the machine and the time."""

from __future__ import annotations

import contextlib
import filecmp
import functools
import hashlib
import os
import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from clbench.errors import DataError, MachineError, UsageError
from clbench.results import manifests, store
from clbench.results.pack import LARGEST_INDEX, PACK_SCHEMA, STUDY, can_be_packed, is_network
from clbench.results.pack_layout import INDEX, LARGEST_PACK, SUFFIX, directory, local_header
from clbench.results.record_model import as_json
from clbench.results.run_spec import folder_name
from clbench.results.stored_run import StoredRun
from clbench.system.files import publish_file
from clbench.system.tables import readable_bytes


@dataclass(frozen=True)
class Packed:
    """A pack that was written."""

    runs: int
    size: int
    """In bytes."""

    networks_left_out: int
    """Bytes of kept networks that are not in it."""


@dataclass(frozen=True)
class _File:
    entry: manifests.ManifestEntry
    content: Callable[[], Iterable[bytes]]


def check_name(path: Path) -> None:
    """Raise UsageError for a path that is not named like a pack, such as a folder of results."""
    if path.suffix != SUFFIX:
        raise UsageError(
            f"a pack's name must end in {SUFFIX} (got {path})", "For example: clbench pack results study.zip"
        )


def write_pack(path: Path, runs: Sequence[StoredRun], networks: bool = False, study: bytes | None = None) -> Packed:
    """Write the runs to the file `path`, with the networks that they have kept only if `networks` is true.

    A run without its networks has the manifest of one that never kept any; nothing else in it differs. `study` is the
    study of the runs, as TOML. Raises UsageError if `path` exists and is not this very pack, DataError for runs that
    no pack can hold, and MachineError if it cannot be written.
    """
    check_name(path)
    left_out = 0
    files: dict[str, _File] = {}
    for run in runs:
        own, omitted = _files_of(run, networks)
        left_out += omitted
        files |= own
    files |= {f"{store.SOURCES}/{_sha256(each)}.py": _held(each) for each in _sources(runs)}
    if study is not None:
        files[STUDY] = _held(study)
    files = {INDEX: _held(_index(files, runs))} | {name: files[name] for name in sorted(files)}
    _check_size(files)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("xb") as file:
            size = _write(file, files)
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, path)
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror or error}", "Choose another place.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return Packed(len(runs), size, left_out)


def _files_of(run: StoredRun, networks: bool) -> tuple[dict[str, _File], int]:
    """Return the files of a run by their paths in the pack, and how many bytes of networks are left out."""
    listed = manifests.Manifest.model_validate_json(run.files.read(manifests.MANIFEST, manifests.LARGEST_JSON)).files
    kept = {name: entry for name, entry in listed.items() if networks or not is_network(name)}
    written = manifests.of_sizes({name: (entry.size, entry.sha256) for name, entry in kept.items()})
    place = folder_name(run.spec)
    files = {f"{place}/{manifests.MANIFEST}": _held(written)}
    for name, entry in kept.items():
        files[f"{place}/{name}"] = _File(entry, functools.partial(run.files.blocks, name))
    if wrong := [path for path in files if not can_be_packed(path)]:
        raise DataError(f"{run.path} cannot be packed: no pack may contain a file {wrong[0].rpartition('/')[2]}")
    return files, sum(entry.size for name, entry in listed.items() if name not in kept)


def _sources(runs: Iterable[StoredRun]) -> set[bytes]:
    return {source for run in runs if (source := run.source) is not None}


def _index(files: Mapping[str, _File], runs: Iterable[StoredRun]) -> bytes:
    versions: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        known = {"python": run.environment.python, **(run.environment.packages or {})}
        for name, version in known.items():
            if version is not None:
                versions[name].add(version)
    return as_json(
        {
            "schema": PACK_SCHEMA,
            "versions": {name: sorted(versions[name]) for name in sorted(versions)},
            "files": {name: files[name].entry for name in sorted(files)},
        }
    )


def _held(content: bytes) -> _File:
    return _File(manifests.ManifestEntry(size=len(content), sha256=_sha256(content)), lambda: [content])


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check_size(files: Mapping[str, _File]) -> None:
    # Each file is named twice, before its content and at the end.
    size = sum(file.entry.size + 2 * len(name) + 100 for name, file in files.items())
    if size > LARGEST_PACK or files[INDEX].entry.size > LARGEST_INDEX:
        raise DataError(
            f"{len(files):,} files of {readable_bytes(size)} are more than a pack can hold",
            "Pack fewer runs (choose them with -s, -S and --recipe), or leave out the networks.",
        )


def _write(file: BinaryIO, files: Mapping[str, _File]) -> int:
    """Write the files and the end of the pack; return its size."""
    listed = []
    for name, each in files.items():
        place, size, crc, digest = file.tell(), 0, 0, hashlib.sha256()
        file.write(local_header(name, each.entry.size, crc))
        for block in each.content():
            file.write(block)
            size, crc = size + len(block), zlib.crc32(block, crc)
            digest.update(block)
        if (size, digest.hexdigest()) != (each.entry.size, each.entry.sha256):
            raise DataError(f"{name} changed while it was being packed", "Check the runs: clbench doctor")
        file.seek(place)
        file.write(local_header(name, size, crc))
        file.seek(0, os.SEEK_END)
        listed.append((name, place, size, crc))
    file.write(directory(listed, file.tell()))
    return file.tell()


def _publish(temporary: Path, path: Path) -> None:
    """Give the pack its name. Raises UsageError if something else has this name."""
    try:
        publish_file(temporary, path)
    except FileExistsError:
        if not path.is_file() or not filecmp.cmp(temporary, path, shallow=False):
            raise UsageError(f"{path} exists, and is not replaced", "Remove it, or choose another name.") from None
