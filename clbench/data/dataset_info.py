"""The description of a dataset in dataset.json: written, and read back with every field checked."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clbench.data.image_fit import FITS, Fit

_FORMAT = 1
_FILE = "dataset.json"


@dataclass(frozen=True)
class DatasetInfo:
    """What is known about a dataset without opening its arrays.

    name: 1 to 64 of a-z, 0-9, _ and -, the first a letter or digit.
    classes: the name of class 0, 1, …
    shape: height, width and channels (1 or 3) of every image.
    train_size, test_size: number of images.
    mean, std: per channel, of the training pixels scaled to 0 .. 1; std is 0 for a constant channel.
    sha256: of the four arrays' dtype, shape and bytes; the same content under another name has the same hash.
    source: where it came from, in words.
    bytes: of the four arrays together.
    split: how a benchmark that it comes from divides the classes, for `--split`; empty otherwise.
    fit: how images of other sizes were brought to this shape; "stretch" also if there were none.
    domains: the names of its domains, each with the same classes, or None. Its classes are then DOMAIN/CLASS, those of
        the first domain first, and those of each domain in the same order.
    """

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train_size: int
    test_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str
    source: str
    bytes: int
    split: str = ""
    fit: Fit = "stretch"
    domains: tuple[str, ...] | None = None


def write_info(place: Path, info: DatasetInfo) -> None:
    """Write `info` into the dataset's folder and wait until it is on the disk."""
    with (place / _FILE).open("x", encoding="utf-8") as file:
        json.dump({"format": _FORMAT, **dataclasses.asdict(info)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def read_info(place: Path, name: str) -> DatasetInfo:
    """Read back what `write_info` wrote. Raises OSError, ValueError or TypeError if it is missing or invalid."""
    stored = json.loads((place / _FILE).read_text(encoding="utf-8"))
    if not isinstance(stored, dict) or stored.pop("format", None) != _FORMAT:
        raise ValueError(f"it is not in format {_FORMAT}")
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    info = DatasetInfo(**fields)
    _check_types(info)
    if info.name != name:
        raise ValueError(f"it describes a dataset named {info.name!r}")
    return info


def _check_types(info: DatasetInfo) -> None:
    domains = info.domains or ()
    texts = (info.name, info.sha256, info.source, info.split, *info.classes, *domains)
    counts = (*info.shape, info.train_size, info.test_size, info.bytes)
    if not (
        all(isinstance(text, str) for text in texts)
        and all(type(count) is int and count > 0 for count in counts)
        and all(isinstance(level, float) for level in (*info.mean, *info.std))
        and info.fit in FITS
        and len(info.shape) == 3
        and len(info.mean) == len(info.std) == info.shape[2]
        and (info.domains is None or (len(domains) > 1 and len(info.classes) % len(domains) == 0))
    ):
        raise ValueError("a field has the wrong type")
