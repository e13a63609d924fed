"""The checks of every import, and the errors with which it refuses what is not a dataset."""

from __future__ import annotations

import errno
import lzma
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clbench.data import image_files
from clbench.data.cache import DISK_FULL
from clbench.data.image_folders import EXPECTED as EXPECTED_FOLDER
from clbench.errors import DataError

# Predictions are stored as int16.
MAX_CLASSES = 32_767
EXPECTED = (
    f"{EXPECTED_FOLDER} Or an .npz with x_train, y_train, x_test, y_test (images and their labels), or x and y. "
    "See docs/own-data.md for more."
)
# What zip and image readers raise on crafted or damaged files.
UNREADABLE = (*image_files.UNREADABLE, lzma.LZMAError, zipfile.BadZipFile)

_FEW = 5
"""Most names that a message lists."""


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn errors in reading the file at `path` into a DataError that names it, except those of a full disk."""
    try:
        yield
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        raise refused(path, error) from error


def refused(path: Path, why: object) -> DataError:
    """Return the error that says why `path` was not imported."""
    return DataError(f"{path} was not imported: {why}. It was left unchanged.", EXPECTED)


def check_space(place: Path, needed: int) -> None:
    """Raise the OSError of a full disk if so many bytes are not free where `place` is."""
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"its images unpack to {needed:,} bytes, but only {free:,} are free")


def check_count(classes: Sequence[str]) -> None:
    """Raise ValueError for no classes, or more than predictions can store."""
    if not 0 < len(classes) <= MAX_CLASSES:
        raise ValueError(f"it has {len(classes)} classes, not 1 to {MAX_CLASSES}")


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes. Raises ValueError for one that cannot be shown, and for one that occurs twice."""
    for name in names:
        if not name.strip() or not name.isprintable():
            raise ValueError(f"invalid class name {name!r}")
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    return tuple(names)


def few(names: Sequence[str]) -> str:
    """Return the names, or only the first of them if there are many."""
    return ", ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")


def balance(classes: Sequence[str], train: Sequence[int], test: Sequence[int]) -> list[str]:
    """Return sentences about the numbers of images of each class."""
    smallest, largest, median = min(train), max(train), sorted(train)[len(train) // 2]
    sentences = [f"training images per class: {smallest:,}"]
    if largest > smallest:
        least = sorted(zip(train, classes, strict=True))[:3]
        fewest = ", ".join(f"{name} {count:,}" for count, name in least)
        sentences = [f"training images per class: {smallest:,} to {largest:,}, median {median:,} (fewest: {fewest})"]
    untested = [name for name, count in zip(classes, test, strict=True) if not count]
    if untested:
        which = "1 class has" if len(untested) == 1 else f"{len(untested)} classes have"
        sentences.append(f"{which} no test images, so that it is not known how well they are learned: {few(untested)}")
    return sentences
