"""Datasets as uint8 arrays on disk: prepared once, checked whenever they are opened, memory-mapped by every run."""

from __future__ import annotations

import functools
import mmap
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import platformdirs

from clbench.data import builtin_datasets
from clbench.data.builtin_datasets import BUILTIN as BUILTIN
from clbench.data.cache import (
    Report,
    building,
    check_content,
    check_name,
    dataset_folder,
    describe_checked,
    publish,
    silent,
    unknown,
)
from clbench.data.cache import cached_names as cached_names
from clbench.data.cache import describe as describe
from clbench.data.dataset_info import DatasetInfo
from clbench.data.npy_files import ARRAYS, npy_file
from clbench.errors import DataError, UsageError
from clbench.system.files import from_home
from clbench.system.machine import available_memory


@dataclass(frozen=True)
class Dataset:
    """A dataset whose arrays are mapped from disk; writing to them never reaches the file.

    x_train, x_test: uint8 (n, height, width, channels).
    y_train, y_test: int64 (n,), 0 .. classes-1; every class is in y_train.
    """

    info: DatasetInfo
    x_train: npt.NDArray[np.uint8]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.uint8]
    y_test: npt.NDArray[np.int64]

    fits_in_memory: bool = True
    """Whether what has been read once is likely still to be in memory when it is read again."""


@dataclass(frozen=True)
class ListedDataset:
    """One line of `clbench data list`: `info` is None if it is not prepared yet or, with a `problem`, damaged."""

    name: str
    builtin: bool
    info: DatasetInfo | None
    problem: str | None


def data_folder(explicit: Path | None = None) -> Path:
    """Return the folder of the datasets: `explicit`, otherwise $CLBENCH_DATA, otherwise the platform's cache folder."""
    if explicit is not None:
        return Path(from_home(explicit))
    if from_environment := os.environ.get("CLBENCH_DATA"):
        return Path(from_home(from_environment))
    return platformdirs.user_cache_path("clbench")


def fetch(name: str, folder: Path, report: Report = silent) -> DatasetInfo:
    """Make sure that `name` is in the cache and describe it; download or convert it only if it is missing.

    If two processes want the same dataset at once, one prepares it and the other waits. Raises UsageError for a name
    that is neither built-in nor imported, DataError if the data cannot be obtained or are damaged, MachineError if the
    folder cannot be written.
    """
    if info := describe_checked(name, folder):
        return info
    if name not in BUILTIN:
        raise UsageError(*unknown(name, folder))
    with building(name, folder, report) as place:
        if info := describe_checked(name, folder):
            return info
        with tempfile.TemporaryDirectory(dir=place, prefix="download-") as scratch:
            loaded = builtin_datasets.load(name, folder, Path(scratch), report)
        for array in ARRAYS:
            values = getattr(loaded, array)
            with npy_file(place / f"{array}.npy", values.dtype, values.shape) as file:
                file.write(np.ascontiguousarray(values).data)
        try:
            return publish(place, name, folder, loaded.classes, loaded.source, report)
        except ValueError as error:
            raise DataError(f"{loaded.source} is not {name}: {error}.") from error


def expected(name: str) -> DatasetInfo:
    """Return what a built-in dataset will be once it is prepared; its hash, statistics and size are still empty."""
    builtin = BUILTIN[name]
    return DatasetInfo(
        name=name,
        classes=tuple(str(label) for label in range(builtin.classes)),
        shape=builtin.shape,
        train_size=builtin.train_size,
        test_size=builtin.test_size,
        mean=(0.0,) * builtin.shape[2],
        std=(0.0,) * builtin.shape[2],
        sha256="",
        source="",
        bytes=0,
    )


def open_dataset(name: str, folder: Path, report: Report = silent) -> Dataset:
    """Return the dataset `name`, mapped from the cache in `folder`; a built-in one is prepared first if necessary.

    Sizes and headers of the files are checked against dataset.json; the content is not read (`verify` does that).
    Raises DataError if the dataset is missing or damaged, and what `fetch` raises.
    """
    check_name(name)
    place = dataset_folder(name, folder)
    if name not in BUILTIN and not place.is_dir():
        raise DataError(*unknown(name, folder))
    info = fetch(name, folder, report)
    # Copy-on-write: torch shares the memory of writable arrays only, and nothing written ever reaches the file.
    mapped = {array: np.load(place / f"{array}.npy", mmap_mode="c", allow_pickle=False) for array in ARRAYS}
    fits = info.bytes <= available_memory() / 2
    if not fits:
        # Batches are drawn at random. The system reads the neighbours of an image along with it; when memory is short,
        # these would evict images that are needed soon. The next batch is requested explicitly instead: read_ahead.py.
        for images in ("x_train", "x_test"):
            mapped[images]._mmap.madvise(mmap.MADV_RANDOM)
    return Dataset(info, **mapped, fits_in_memory=fits)


@functools.lru_cache(maxsize=8)
def class_counts(info: DatasetInfo, folder: Path, part: Literal["train", "test"] = "train") -> tuple[int, ...]:
    """Return the number of training or test images of each class of a dataset that is in the cache.

    The result is cached, since a grid asks for it in each of its runs.
    """
    labels = np.load(dataset_folder(info.name, folder) / f"y_{part}.npy", mmap_mode="r", allow_pickle=False)
    return tuple(np.bincount(labels, minlength=len(info.classes)).tolist())


def list_datasets(folder: Path) -> list[ListedDataset]:
    """Return the built-in datasets, prepared or not, and then the imported ones by name."""
    return [_listed(name, folder) for name in dict.fromkeys([*BUILTIN, *cached_names(folder)])]


def _listed(name: str, folder: Path) -> ListedDataset:
    try:
        return ListedDataset(name, name in BUILTIN, describe_checked(name, folder), None)
    except DataError as error:
        return ListedDataset(name, name in BUILTIN, None, str(error))


def verify(folder: Path, name: str | None = None) -> list[tuple[str, str | None]]:
    """Read every cached dataset, or only `name`, from beginning to end: [(name, None or what is wrong with it)].

    Hash, shapes, label ranges, mean and deviation are recomputed and compared with dataset.json. Raises DataError
    if `name` is not in the cache.
    """
    if name is not None and describe(name, folder) is None:
        raise DataError(*unknown(name, folder))
    return [(each, _problem(each, folder)) for each in ([name] if name is not None else cached_names(folder))]


def _problem(name: str, folder: Path) -> str | None:
    """Return what is wrong with the cached dataset `name`, found by reading all of it; None if nothing is."""
    try:
        check_content(name, folder)
    except DataError as error:
        return str(error)
    return None
