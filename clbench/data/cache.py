"""The cache of prepared datasets: where each one is, and how it is built, published and checked.

Dataset NAME is in `arrays/NAME` in the data folder: four .npy files, and a dataset.json that describes them. It is
built in a temporary folder, synced, and published by one rename, so a dataset under its own name is always complete.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import filelock
import numpy as np

from clbench.data import builtin_datasets
from clbench.data.builtin_datasets import BUILTIN
from clbench.data.dataset_info import DatasetInfo, read_info, write_info
from clbench.data.image_fit import Fit
from clbench.data.measuring import Measurement, measure
from clbench.data.npy_files import ARRAYS, read_npy_header
from clbench.errors import DataError, MachineError, UsageError
from clbench.system.files import found_at, sync_folder
from clbench.system.suggestions import did_you_mean

# Because of the disk itself, a quota, or a limit on the size of a file.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Report = Callable[[str], None]
"""Called with one sentence before anything that takes long."""


def silent(sentence: str) -> None:
    """A Report that shows nothing."""


def is_name(name: str) -> bool:
    """Return whether a dataset can have this name."""
    return re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name) is not None


def check_name(name: str) -> None:
    """Raise UsageError if `name` is not a valid name of a dataset."""
    if not is_name(name):
        raise UsageError(
            f"invalid dataset name {name[:80]!r}",
            "A name has 1 to 64 characters of a-z, 0-9, _ and -, and begins with a letter or digit.",
        )


def dataset_folder(name: str, folder: Path) -> Path:
    """Return the folder in the cache that holds the dataset `name`, once it is prepared."""
    return folder / "arrays" / name


def cached_names(folder: Path) -> list[str]:
    """Return the names of all datasets in the cache, sorted."""
    arrays = folder / "arrays"
    return (
        sorted(place.name for place in arrays.iterdir() if is_name(place.name)) if found_at(arrays) == "folder" else []
    )


def unknown(name: str, folder: Path) -> tuple[str, str]:
    """Return message and hint for a dataset that is not in the cache."""
    if name in BUILTIN:
        return f"{name} is not in {folder} yet.", builtin_datasets.ways_to_get(name, folder)
    known = list(dict.fromkeys([*BUILTIN, *cached_names(folder)]))
    return (
        f"There is no dataset '{name}' in {folder}{did_you_mean(name, known)} (known: {', '.join(known)})",
        f"Import it with `clbench data import {name} PATH`.",
    )


# -- reading and checking ---------------------------------------------------------------------------------------------


def describe(name: str, folder: Path) -> DatasetInfo | None:
    """Return what the cache in `folder` says about `name`, or None if it has not been prepared or imported yet.

    Raises UsageError for an invalid name and DataError if the cache is damaged.
    """
    check_name(name)
    place = dataset_folder(name, folder)
    if found_at(place) != "folder":
        return None
    try:
        return read_info(place, name)
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(place / "dataset.json", name, folder, error) from error


def describe_checked(name: str, folder: Path) -> DatasetInfo | None:
    """Like `describe`, but also check the sizes and headers of the four files."""
    info = describe(name, folder)
    if info is not None:
        for array in ARRAYS:
            path = dataset_folder(name, folder) / f"{array}.npy"
            try:
                _check_header(path, array, info)
            except (OSError, ValueError) as error:
                raise _damaged(path, name, folder, error) from error
    return info


def check_content(name: str, folder: Path) -> None:
    """Read all of a cached dataset. Raises DataError if any byte differs from what its dataset.json states."""
    info = describe_checked(name, folder)
    if info is None:
        return
    place = dataset_folder(name, folder)
    try:
        measured = measure(place, name, info.classes, info.source)
    except (OSError, ValueError) as error:
        raise _damaged(place, name, folder, error) from error
    for field in ("sha256", "mean", "std", "bytes"):
        stored, found = getattr(info, field), getattr(measured, field)
        if stored != found:
            raise _damaged(place, name, folder, f"its {field} is {found}, dataset.json says {stored}")


def _check_header(path: Path, array: str, info: DatasetInfo) -> None:
    """Raise ValueError or OSError if the file's header or size does not match `info`."""
    size = info.train_size if array.endswith("train") else info.test_size
    expected: tuple[tuple[int, ...], np.dtype[np.generic]]
    expected = ((size, *info.shape), np.dtype(np.uint8)) if array.startswith("x") else ((size,), np.dtype(np.int64))
    with path.open("rb") as file:
        shape, fortran_order, dtype = read_npy_header(file)
        if (shape, dtype) != expected or fortran_order:
            raise ValueError(f"it holds {dtype} {shape}, dataset.json says {expected[1]} {expected[0]}")
        complete = file.tell() + math.prod(shape) * dtype.itemsize
        actual = os.fstat(file.fileno()).st_size
    if actual != complete:
        raise ValueError(f"it has {actual} bytes instead of {complete}")


def _damaged(path: Path, name: str, folder: Path, what: object) -> DataError:
    again = f"`clbench data import {name} PATH`"
    if name in BUILTIN:
        again = f"`clbench data fetch {name}` or {again}"
    return DataError(
        f"{path} is damaged: {what}. It was not used.",
        f"See `clbench data verify`, then delete {dataset_folder(name, folder)} and run {again}.",
    )


# -- building ---------------------------------------------------------------------------------------------------------


@contextmanager
def building(name: str, folder: Path, report: Report) -> Iterator[Path]:
    """Yield an empty folder to fill and `publish`, while no other process builds this dataset.

    It is removed on exit, published or not. Raises MachineError if the disk is full or cannot be written.
    """
    check_name(name)
    place = dataset_folder(f".{name}.building", folder)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{name}.lock", name, report):
            shutil.rmtree(place, ignore_errors=True)  # what a killed process left
            place.mkdir()
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        fix = "Free disk space" if error.errno in DISK_FULL else "Make the folder writable"
        raise MachineError(
            f"{name} could not be written to {folder}: {error.strerror or error}. Nothing incomplete was kept.",
            f"{fix}, or choose another folder with --data.",
        ) from error


def publish(
    place: Path,
    name: str,
    folder: Path,
    classes: tuple[str, ...],
    source: str,
    report: Report = silent,
    split: str = "",
    fit: Fit = "stretch",
    measurement: Measurement | None = None,
    domains: tuple[str, ...] | None = None,
) -> DatasetInfo:
    """Measure the four .npy files in `place`, add dataset.json, and rename the folder to its final place.

    `split` is the dataset's own division of its classes, if it has one; `fit` is how its images were brought to one
    size. A `measurement` of the arrays as written saves reading them. `domains` as in DatasetInfo.

    Raises ValueError if the arrays do not form a dataset or, under a built-in's name, differ from it in size; DataError
    if the name is taken by different content. If the same content is already there, only `report` says so.
    """
    measured = measurement.info(name, source) if measurement else measure(place, name, classes, source)
    info = replace(measured, split=split, fit=fit, domains=domains)
    _check_builtin(info)
    existing = describe(name, folder)
    if existing is None:
        write_info(place, info)
        sync_folder(place)
        place.rename(dataset_folder(name, folder))
        sync_folder(folder / "arrays")
        return info
    if (existing.sha256, existing.classes, existing.fit) == (info.sha256, info.classes, info.fit):
        report(f"{name} is already in {folder} with the same content; nothing was changed")
        return existing
    raise DataError(
        f"{name} is already in {folder} with different content ({existing.source}). Nothing was changed.",
        f"Choose another name, or delete {dataset_folder(name, folder)} and import again.",
    )


def _check_builtin(info: DatasetInfo) -> None:
    """Raise ValueError if a dataset under a built-in's name does not have that dataset's size."""
    builtin = BUILTIN.get(info.name)
    if builtin is None:
        return
    found = (info.shape, len(info.classes), info.train_size, info.test_size)
    if found != (builtin.shape, builtin.classes, builtin.train_size, builtin.test_size):
        raise ValueError(
            f"{info.name} has {builtin.train_size} + {builtin.test_size} images of {builtin.shape} in "
            f"{builtin.classes} classes, this has {info.train_size} + {info.test_size} of {info.shape} in "
            f"{len(info.classes)}"
        )


@contextmanager
def _locked(path: Path, name: str, report: Report) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        report(f"waiting for another process that is preparing {name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
