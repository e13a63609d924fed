"""Packs: runs in one file that can be sent to others, read without unpacking, and safe to read from a stranger.

    pack.json                                               size and SHA-256 of every other file, versions
    <scenario>/<strategy>/<recipe>-seed<k>-<id>/spec.json   the files of a run as they were published, and so on
    sources/<sha256>.py                                     a strategy's file, once for all runs that it made
    study.toml                                              the study, if the runs are one

A pack is a zip file with a fixed layout: pack.json first, then the others in order of name; nothing compressed, no
dates, no gaps and nothing after the end. So pack.json determines every byte except for the contents. Nothing is
compressed, since the output of zlib differs from one build to the next, and predictions, most of a pack, are compressed
already; what these may unpack to is bounded where they are read. Any other zip file is refused before anything but
pack.json is read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pydantic_core import from_json

from clbench.errors import DataError
from clbench.results import manifests, store
from clbench.results.network_record import STEM
from clbench.results.pack_layout import (
    INDEX,
    LARGEST_PACK,
    LOCAL,
    begins_a_pack,
    crc_in_header,
    directory,
    local_header,
    size_in_header,
)
from clbench.system.output import one_line

STUDY = "study.toml"
PACK_SCHEMA = 1
"""Raised whenever the layout or the shape of pack.json changes."""

LARGEST_INDEX = 2**24
"""The most bytes of pack.json, enough to list some 100,000 files."""

_PART = r"[A-Za-z0-9_-]{1,64}"
_RECORD = r"MANIFEST\.json|[a-z0-9_-]{1,64}\.(?:json|jsonl|npz|safetensors)"
_RUN = re.compile(rf"({_PART}/{_PART}/[A-Za-z0-9_-]{{1,128}})/({_RECORD})")
_SOURCE = re.compile(rf"{store.SOURCES}/([0-9a-f]{{64}})\.py")


def is_network(name: str) -> bool:
    """Return whether a file of a run belongs to a kept network."""
    return name.startswith(STEM)


def can_be_packed(path: str) -> bool:
    """Return whether a pack may contain a file with this path: JSON, arrays, and sources under their hashes."""
    return path == STUDY or bool(_RUN.fullmatch(path) or _SOURCE.fullmatch(path))


class Member(NamedTuple):
    """Where a file is in a pack, and the size and hash that it must have."""

    start: int
    """The first byte of its content."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Pack:
    """A pack whose layout has been checked; contents are checked when they are read."""

    path: Path
    members: Mapping[str, Member]

    def runs(self) -> list[PackedRun]:
        """Return the files of each run, in order of name."""
        files: dict[str, dict[str, Member]] = {}
        for name, member in self.members.items():
            if found := _RUN.fullmatch(name):
                files.setdefault(found[1], {})[found[2]] = member
        return [PackedRun(self, name, own) for name, own in files.items()]

    def blocks(self, member: Member) -> Iterator[bytes]:
        """Yield the content of a file. Raises OSError at its end, or before, if it does not match pack.json."""
        digest, left = hashlib.sha256(), member.size
        with self.path.open("rb") as file:
            file.seek(member.start)
            while left and (block := file.read(min(left, 2**20))):
                digest.update(block)
                left -= len(block)
                yield block
        if left or digest.hexdigest() != member.sha256:
            raise OSError(f"it does not match {INDEX}")

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file of at most `most` bytes. Raises OSError for anything else."""
        member = self.members.get(name)
        if member is None:
            raise FileNotFoundError(f"{name} is missing")
        if member.size > most:
            raise OSError(f"{name} is larger than {most:,} bytes")
        return b"".join(self.blocks(member))


@dataclass(frozen=True)
class PackedRun:
    """The files of a run in a pack."""

    pack: Pack
    name: str
    files: Mapping[str, Member]
    """By their names in the run."""

    @property
    def path(self) -> Path:
        """Where they would be if the pack were a folder."""
        return self.pack.path / self.name

    def damage(self) -> str | None:
        """Return what is wrong with the files, or None if each matches the run's manifest and the pack's."""
        try:
            listed = self.read(manifests.MANIFEST, manifests.LARGEST_JSON)
        except OSError as error:
            return f"{manifests.MANIFEST} cannot be read ({error})"
        own = {name: member for name, member in self.files.items() if name != manifests.MANIFEST}
        if listed != manifests.of_sizes({name: (member.size, member.sha256) for name, member in own.items()}):
            return f"{manifests.MANIFEST} and {INDEX} disagree"
        for name, member in own.items():
            try:
                for _ in self.pack.blocks(member):
                    pass
            except OSError as error:
                return f"{name} cannot be read ({error})"
        return None

    def fingerprint(self) -> None:
        """Return None: a pack is read completely each time, as it may come from anybody."""

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file."""
        return self.pack.read(f"{self.name}/{name}", most)

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a file."""
        return self.pack.blocks(self.files[name])

    def source(self, sha256: str) -> bytes:
        """Return what the pack has as the strategy file with this hash."""
        return self.pack.read(f"{store.SOURCES}/{sha256}.py", manifests.LARGEST_JSON)


def open_pack(path: Path) -> Pack:
    """Return the pack in the file `path`. Raises DataError if it is none, or not as `clbench pack` writes it.

    Only pack.json is read from the file's content.
    """
    try:
        with path.open("rb") as file:
            return Pack(path, _members(file))
    except _Refused as refused:
        raise DataError(f"{path} {refused}", "Ask whoever made the pack for another copy.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


class _Refused(Exception):
    """The reason why a file is not accepted as a pack."""


def _members(file: BinaryIO) -> dict[str, Member]:
    size = os.fstat(file.fileno()).st_size
    if size > LARGEST_PACK:
        raise _Refused(f"has more than {LARGEST_PACK:,} bytes")
    entries, length = _index(file)
    start, members = LOCAL.size + len(INDEX) + length, {}
    for name, (content_size, sha256) in entries.items():
        start += LOCAL.size + len(name)
        members[name] = Member(start, content_size, sha256)
        start += content_size
        if start > size:
            raise _Refused(f"is cut off: {INDEX} lists more than fits into its {size:,} bytes")
    places = {INDEX: (0, length)}
    places |= {name: (each.start - LOCAL.size - len(name), each.size) for name, each in members.items()}
    _check_layout(file, places, start, size)
    return members


def _index(file: BinaryIO) -> tuple[dict[str, manifests.SizeAndHash], int]:
    """Return the sizes and hashes of the other files from pack.json, and its length."""
    header = file.read(LOCAL.size + len(INDEX))
    if not begins_a_pack(header):
        raise _Refused("is not a pack of clbench")
    length = size_in_header(header)
    if length > LARGEST_INDEX:
        raise _Refused(f"has a {INDEX} of more than {LARGEST_INDEX:,} bytes")
    content = file.read(length)
    if len(content) < length:
        raise _Refused("is cut off")
    return _entries(content), length


def _entries(content: bytes) -> dict[str, manifests.SizeAndHash]:
    """Return the sizes and hashes of the other files from pack.json, in order of name.

    Only the first problem is reported; pydantic would hold an error for each of millions.
    """
    try:
        said = from_json(content)
    except ValueError as error:
        raise _Refused(f"has a {INDEX} that is not valid: {one_line(str(error), 200)}") from None
    schema = said.get("schema") if isinstance(said, dict) else None
    if type(schema) is int and schema > PACK_SCHEMA:
        raise _Refused(f"is a pack of a later schema than {PACK_SCHEMA}; update clbench to read it")
    if schema != PACK_SCHEMA or said.keys() != {"schema", "versions", "files"} or not isinstance(said["files"], dict):
        raise _Refused(f"has a {INDEX} that does not follow schema {PACK_SCHEMA}")
    files: dict[str, Any] = said["files"]
    for name, entry in files.items():
        if not can_be_packed(name):
            raise _Refused(f"contains a file that no pack may contain: '{one_line(name, 100)}'")
        if not isinstance(entry, dict) or entry.keys() != {"size", "sha256"} or not _is_size(entry["size"]):
            raise _Refused(f"has a {INDEX} that does not state the size of {name}")
    if list(files) != sorted(files):
        raise _Refused("does not list its files in the order of their names")
    return {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _check_layout(file: BinaryIO, places: Mapping[str, tuple[int, int]], start: int, size: int) -> None:
    """Raise _Refused if anything around the contents is not as `clbench pack` writes it, except for the CRCs.

    Other programs check contents by these; clbench uses the hashes in pack.json.
    """
    files = []
    for name, (place, length) in places.items():
        file.seek(place)
        header = file.read(LOCAL.size + len(name))
        crc = crc_in_header(header)
        if header != local_header(name, length, crc):
            raise _Refused(f"is not as clbench pack writes it (before {name})")
        files.append((name, place, length, crc))
    expected = directory(files, start)
    file.seek(start)
    if size != start + len(expected) or file.read(len(expected)) != expected:
        raise _Refused("is not as clbench pack writes it (at its end)")
