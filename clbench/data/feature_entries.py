"""Stored features of frozen networks: what an entry is, and how entries are checked, listed, evicted and removed.

An entry is in `features/HASH` in the data folder: train.npy and test.npy, float32 (n, features), and an entry.json
that describes them. HASH is the SHA-256 of the entry's key, which names everything that the features depend on. An
entry is published by one rename and removed by one, so one under its own name is always complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from clbench.data.npy_files import read_npy_header
from clbench.errors import MachineError, UsageError
from clbench.system.files import found_at, open_plain, read_plain, write_synced
from clbench.system.tables import readable_bytes

PARTS = ("train", "test")

Key = Mapping[str, Any]
"""Everything that the features depend on, as JSON values: the network and its package, the SHA-256 of its weights, the
input's size and normalization, the dataset's SHA-256, torch's version, the kind of device, the precision. `network`,
`size` and `dataset` are also shown to the user."""

_FORMAT = 1
"""Part of the hash: raise it if the same key comes to mean other features, as with another batch size."""

_FILE = "entry.json"
_LARGEST_FILE = 1 << 20
_CHUNK = 1 << 22
_LIMIT_VARIABLE = "CLBENCH_FEATURES_GB"
_DEFAULT_LIMIT = 20 * 10**9


@dataclass(frozen=True)
class StoredArray:
    """One .npy file: its (n, features), its size in bytes, and the SHA-256 of these bytes."""

    shape: tuple[int, int]
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """The content of entry.json."""

    key: dict[str, Any]
    arrays: dict[str, StoredArray]
    """By part: `train`, `test`."""

    created: str
    """In UTC, ISO 8601."""

    images_per_second: float
    """In the extraction that made it."""

    @property
    def bytes(self) -> int:
        """Of the arrays together."""
        return sum(array.bytes for array in self.arrays.values())

    @property
    def title(self) -> str:
        """The network and the dataset, for a sentence."""
        return title(self.key)


@dataclass(frozen=True)
class ListedEntry:
    """One line of `clbench data list`: `entry` is None if it is damaged, with a `problem`."""

    path: Path
    entry: Entry | None
    problem: str | None
    bytes: int
    """On the disk."""

    last_used: str
    """In UTC, ISO 8601."""


def title(key: Key) -> str:
    """Return the network and the dataset of a key, for a sentence."""
    return f"{key.get('network', '?')} on {key.get('dataset', '?')}"


def features_folder(folder: Path) -> Path:
    """Return where the entries are in the data folder."""
    return folder / "features"


def entry_folder(key: Key, folder: Path) -> Path:
    """Return where the features of `key` are, once they are extracted."""
    return features_folder(folder) / hashlib.sha256(_canonical({"format": _FORMAT, "key": dict(key)})).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


# -- writing, reading and checking ------------------------------------------------------------------------------------


def describe_array(path: Path) -> StoredArray:
    """Describe an .npy file, reading all of it. Raises OSError, and ValueError if it does not hold features."""
    with open_plain(path) as file:
        shape, fortran_order, dtype = read_npy_header(file)
        if dtype != np.float32 or fortran_order or len(shape) != 2:
            raise ValueError(f"it holds {dtype} {shape}, not features")
        file.seek(0)
        digest, size = hashlib.sha256(), 0
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return StoredArray((shape[0], shape[1]), size, digest.hexdigest())


def write_entry(place: Path, key: Key, seconds: float) -> Entry:
    """Describe the .npy files in `place`, which took so many `seconds` to extract, in its entry.json."""
    arrays = {part: describe_array(place / f"{part}.npy") for part in PARTS}
    images = sum(array.shape[0] for array in arrays.values())
    entry = Entry(dict(key), arrays, _iso(datetime.now(timezone.utc).timestamp()), round(images / seconds, 1))
    values = {"format": _FORMAT, **asdict(entry)}
    write_synced(place / _FILE, json.dumps(values | {"sha256": _digest(values)}, indent=1).encode())
    return entry


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(values)).hexdigest()


def read_entry(place: Path) -> Entry:
    """Read entry.json, and check it and the sizes and headers of the arrays. Raises OSError or ValueError."""
    values = json.loads(read_plain(place / _FILE, _LARGEST_FILE))
    if not isinstance(values, dict) or values.pop("sha256", None) != _digest(values):
        raise ValueError(f"{_FILE} is not what was written")
    try:
        if values.pop("format") != _FORMAT or entry_folder(values["key"], Path()).name != place.name:
            raise ValueError(f"{_FILE} describes other features")
        stored = values.pop("arrays")
        arrays = {part: StoredArray(**stored[part] | {"shape": tuple(stored[part]["shape"])}) for part in PARTS}
        entry = Entry(arrays=arrays, **values)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{_FILE} does not describe features") from error
    for part, array in arrays.items():
        _check_header(place / f"{part}.npy", array)
    return entry


def _check_header(path: Path, expected: StoredArray) -> None:
    """Raise ValueError or OSError if the file's header or size is not as expected."""
    with open_plain(path) as file:
        shape, fortran_order, dtype = read_npy_header(file)
        if (shape, dtype, fortran_order) != (expected.shape, np.dtype(np.float32), False):
            raise ValueError(f"{path.name} holds {dtype} {shape}, {_FILE} says float32 {expected.shape}")
        complete = file.tell() + math.prod(shape) * dtype.itemsize
        actual = os.fstat(file.fileno()).st_size
    if not actual == complete == expected.bytes:
        raise ValueError(f"{path.name} has {actual} bytes instead of {complete}")


def mark_used(place: Path) -> None:
    """Record in the modification time of entry.json that the entry is used now."""
    with contextlib.suppress(OSError):  # the folder may be another user's, or on a read-only disk
        os.utime(place / _FILE)


def verify_features(folder: Path) -> list[tuple[str, str | None]]:
    """Read every entry from beginning to end: [(what it holds, None or what is wrong with it)]."""
    found: list[tuple[str, str | None]] = []
    for place in _places(folder):
        name = f"features {place.name[:8]}"
        try:
            entry = read_entry(place)
            name = f"{name} ({entry.title})"
            for part, expected in entry.arrays.items():
                if (measured := describe_array(place / f"{part}.npy")) != expected:
                    raise ValueError(f"the SHA-256 of {part}.npy is {measured.sha256}, {_FILE} says {expected.sha256}")
            found.append((name, None))
        except (OSError, ValueError) as error:
            found.append((name, f"{place} is damaged: {error}"))
    return found


def list_features(folder: Path) -> list[ListedEntry]:
    """Return the entries in the data folder, the most recently used first."""
    return [_listed(place) for place in sorted(_places(folder), key=_last_used, reverse=True)]


def _listed(place: Path) -> ListedEntry:
    size, used = _size(place), _iso(_last_used(place))
    try:
        return ListedEntry(place, read_entry(place), None, size, used)
    except (OSError, ValueError) as error:
        return ListedEntry(place, None, f"damaged: {error}", size, used)


def _places(folder: Path) -> list[Path]:
    """Return the folders of all entries, sorted; what is being built or removed has another name."""
    features = features_folder(folder)
    if found_at(features) != "folder":
        return []
    return sorted(place for place in features.iterdir() if re.fullmatch(r"[0-9a-f]{64}", place.name) is not None)


def _size(place: Path) -> int:
    total = 0
    for path in place.glob("*"):
        with contextlib.suppress(OSError):  # another process has just removed it
            total += path.lstat().st_size
    return total


def _last_used(place: Path) -> float:
    for path in (place / _FILE, place):
        with contextlib.suppress(OSError):
            return path.lstat().st_mtime
    return 0.0


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


# -- removing ---------------------------------------------------------------------------------------------------------


def remove_entry(place: Path) -> None:
    """Remove an entry; a process that has mapped its arrays keeps them. Raises OSError."""
    gone = place.with_name(f".{place.name}.{uuid.uuid4().hex[:8]}.removed")
    with contextlib.suppress(FileNotFoundError):  # another process has just removed it
        place.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def clean_features(folder: Path) -> tuple[int, int]:
    """Remove all entries. Returns how many there were, and their bytes. Raises MachineError."""
    places = _places(folder)
    size = sum(map(_size, places))
    try:
        for place in places:
            remove_entry(place)
    except OSError as error:
        raise MachineError(f"the features in {folder} could not be removed: {error}") from error
    return len(places), size


def size_limit(folder: Path) -> int:
    """Return how many bytes the entries may take together: $CLBENCH_FEATURES_GB, or 20 GB, or half of what is free.

    What is free on the disk of the data folder is counted as if there were no entries.
    """
    text = os.environ.get(_LIMIT_VARIABLE)
    if not text:
        held = sum(map(_size, _places(folder)))
        return min(_DEFAULT_LIMIT, (shutil.disk_usage(features_folder(folder)).free + held) // 2)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise UsageError(f"{_LIMIT_VARIABLE} must be a number of gigabytes above 0 (got {text[:80]!r})")
    return int(limit * 1e9)


def make_room(needed: int, folder: Path) -> list[str]:
    """Remove the least recently used entries until one of `needed` bytes fits below the limit; return what to report.

    An entry larger than the limit is accepted, but no other is kept. Raises MachineError if the disk has less room.
    """
    limit, said = size_limit(folder), []
    entries = sorted(_places(folder), key=_last_used)
    held = {place: _size(place) for place in entries}
    for place in entries:
        if sum(held.values()) + needed <= limit:
            break
        said.append(f"removed the features {_described(place)} to stay below {readable_bytes(limit)}")
        remove_entry(place)
        del held[place]
    free = shutil.disk_usage(features_folder(folder)).free
    if free < needed:
        raise MachineError(
            f"the features need {readable_bytes(needed)}, but {folder} has only {readable_bytes(free)} free",
            "Free disk space, or choose another folder with --data.",
        )
    return said


def _described(place: Path) -> str:
    try:
        return f"of {read_entry(place).title}"
    except (OSError, ValueError):
        return place.name[:8]
