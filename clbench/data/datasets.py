"""Datasets as uint8 arrays on disk: prepared once, checked whenever they are opened, memory-mapped by every run.

The cache of dataset NAME is the folder `arrays/NAME` in the data folder: four .npy files and a dataset.json that says
what they are. It is built beside its place, synced and published by one rename, so what has its name is complete.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import mmap
import os
import re
import shutil
import tempfile
import tokenize
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import filelock
import numpy as np
import numpy.typing as npt
import platformdirs

from clbench.data import sources
from clbench.data.sources import BUILTIN as BUILTIN
from clbench.errors import DataError, MachineError, UsageError
from clbench.system.files import sync_folder
from clbench.system.machine import available_memory
from clbench.system.suggestions import did_you_mean

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
FORMAT = 1
# Predictions are stored as int16.
MOST_CLASSES = 32_767
# A multiple of 1 and 3 channels and of every integer's size, so that a chunk never cuts a pixel or a label in two.
CHUNK = 3 << 20
# The disk itself, a quota on it, and a limit on the size of a file.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Report = Callable[[str], None]


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset without opening its arrays.

    name: 1 to 64 of a-z, 0-9, _ and -, the first a letter or digit.
    classes: the name of class 0, 1, …
    shape: height, width and channels (1 or 3) of every image.
    train_size, test_size: number of images.
    mean, std: per channel, of the training pixels scaled to 0 .. 1; std is 0 for a channel that is constant.
    sha256: of the four arrays' dtype, shape and bytes; the same content under another name has the same.
    source: where it came from, in words.
    bytes: of the four arrays together.
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


@dataclass(frozen=True)
class Dataset:
    """A dataset whose arrays are mapped from disk; writing to them never reaches the file.

    x_train, x_test: uint8 (n, height, width, channels).
    y_train, y_test: int64 (n,), 0 .. classes-1, every class in both.
    """

    info: DatasetInfo
    x_train: npt.NDArray[np.uint8]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.uint8]
    y_test: npt.NDArray[np.int64]

    kept_in_memory: bool = True
    """Whether what has been read once is likely to be in memory still when it is read again."""


@dataclass(frozen=True)
class ListedDataset:
    """One line of `clbench data list`: `info` is None where it is not prepared yet or, with a `problem`, damaged."""

    name: str
    builtin: bool
    info: DatasetInfo | None
    problem: str | None


def silent(sentence: str) -> None:
    """The report of a caller who wants none."""


def data_folder(explicit: Path | None = None) -> Path:
    """The folder that holds the datasets: `explicit`, else $CLBENCH_DATA, else the platform's cache folder."""
    if explicit is not None:
        return explicit.expanduser()
    if from_environment := os.environ.get("CLBENCH_DATA"):
        return Path(from_environment).expanduser()
    return platformdirs.user_cache_path("clbench")


def describe(name: str, folder: Path) -> DatasetInfo | None:
    """What the cache in `folder` says of `name`, or None where it has not been prepared or imported yet.

    Raises UsageError for an impossible name and DataError where the cache is damaged.
    """
    check_name(name)
    if not place_of(name, folder).is_dir():
        return None
    return _read_info(name, folder)


def fetch(name: str, folder: Path, report: Report = silent) -> DatasetInfo:
    """Makes sure that `name` lies in the cache, and says what it is. Does nothing where it already lies there.

    `report` gets one sentence before anything that takes long. Two processes that want the same dataset at once do the
    work once: the other waits. Raises UsageError for a name that is neither built-in nor imported, DataError where the
    data cannot be had or are damaged, MachineError where the folder cannot be written.
    """
    if info := _checked(name, folder):
        return info
    if name not in BUILTIN:
        raise UsageError(*_unknown(name, folder))
    with building(name, folder, report) as place:
        if info := _checked(name, folder):
            return info
        with tempfile.TemporaryDirectory(dir=place, prefix="download-") as scratch:
            loaded = sources.load(name, folder, Path(scratch), report)
        for array in ARRAYS:
            values = getattr(loaded, array)
            with npy_file(place / f"{array}.npy", values.dtype, values.shape) as file:
                file.write(np.ascontiguousarray(values).data)
        try:
            return publish(place, name, folder, loaded.classes, loaded.source, report)
        except ValueError as error:
            raise DataError(f"{loaded.source} is not {name}: {error}.") from error


def open_dataset(name: str, folder: Path, report: Report = silent) -> Dataset:
    """The dataset `name`, mapped from the cache in `folder`; a built-in one is prepared first where it must be.

    Sizes and headers of the files are checked against dataset.json; the content is not read (`verify` does that).
    Raises DataError where the dataset is missing or damaged, and what `fetch` raises.
    """
    check_name(name)
    if name not in BUILTIN and not place_of(name, folder).is_dir():
        raise DataError(*_unknown(name, folder))
    info = fetch(name, folder, report)
    # Copy-on-write: torch shares the memory of writable arrays only, and whatever is written never reaches the file.
    mapped = {
        array: np.load(place_of(name, folder) / f"{array}.npy", mmap_mode="c", allow_pickle=False) for array in ARRAYS
    }
    kept = info.bytes <= available_memory() / 2
    if not kept:
        # Batches are drawn at random. Where not everything can be kept, the neighbours of an image, which the system
        # would read with it, would push out others that are still to come. What comes next is announced instead; see
        # data/read_ahead.py.
        for images in ("x_train", "x_test"):
            mapped[images]._mmap.madvise(mmap.MADV_RANDOM)
    return Dataset(info, **mapped, kept_in_memory=kept)


def list_datasets(folder: Path) -> list[ListedDataset]:
    """The built-in datasets, prepared or not, and then the imported ones by name."""
    return [_listed(name, folder) for name in dict.fromkeys([*BUILTIN, *_cached_names(folder)])]


def verify(folder: Path, name: str | None = None) -> list[tuple[str, str | None]]:
    """Reads every cached dataset, or only `name`, from beginning to end: [(name, None or what is wrong with it)].

    Hash, shapes, label ranges, mean and deviation are computed anew and compared with dataset.json. Raises DataError
    where `name` is not in the cache.
    """
    if name is not None and describe(name, folder) is None:
        raise DataError(*_unknown(name, folder))
    return [(each, _problem(each, folder)) for each in ([name] if name is not None else _cached_names(folder))]


def check_name(name: str) -> None:
    """Raises UsageError where `name` cannot be the name of a dataset."""
    if not _is_name(name):
        raise UsageError(
            f"{name[:80]!r} cannot be the name of a dataset.",
            "A name is 1 to 64 of a-z, 0-9, _ and -, and begins with a letter or digit.",
        )


def place_of(name: str, folder: Path) -> Path:
    """The folder in the cache that holds the dataset `name`, if it is there."""
    return folder / "arrays" / name


@contextmanager
def building(name: str, folder: Path, report: Report) -> Iterator[Path]:
    """An empty folder beside the dataset's place, to fill and `publish`, while no other process builds this dataset.

    It is removed at the end, published or not. Raises MachineError where the disk is full or cannot be written.
    """
    check_name(name)
    place = place_of(f".{name}.building", folder)
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
        what_helps = "Free space there" if error.errno in DISK_FULL else "Make the folder writable"
        raise MachineError(
            f"{name} could not be brought into {folder}: {error}. Nothing half-written was kept.",
            f"{what_helps}, or name another one with --data.",
        ) from error


@contextmanager
def npy_file(path: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """A new .npy file for an array of that dtype and shape, to which the caller writes the bytes; synced at the end.

    Plain writes, because a full disk raises OSError there, and kills the process in a memory map.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file
        file.flush()
        os.fsync(file.fileno())


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """(shape, whether in Fortran order, dtype) of the .npy that `file` stands at the beginning of. Unpickles nothing.

    Raises ValueError where it is no such header.
    """
    version = np.lib.format.read_magic(file)
    try:
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"its npy format {version} is not for plain arrays")
    except (SyntaxError, tokenize.TokenError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"its npy header cannot be read ({type(error).__name__})") from error
    return shape, fortran_order, dtype


def publish(
    place: Path, name: str, folder: Path, classes: tuple[str, ...], source: str, report: Report = silent
) -> DatasetInfo:
    """Measures the four .npy files in `place`, writes dataset.json beside them, and renames the folder to its place.

    Raises ValueError where the arrays are no dataset or, under a built-in's name, not that dataset's size; DataError
    where another content already has the name. The same content there already: nothing is done, and `report` says so.
    """
    info = _measure(place, name, classes, source)
    _check_builtin(info)
    existing = describe(name, folder)
    if existing is None:
        with (place / "dataset.json").open("x", encoding="utf-8") as file:
            json.dump({"format": FORMAT, **dataclasses.asdict(info)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(place)
        place.rename(place_of(name, folder))
        sync_folder(folder / "arrays")
        return info
    if (existing.sha256, existing.classes) == (info.sha256, info.classes):
        report(f"{name} already lies in {folder} with the same content; nothing was changed")
        return existing
    raise DataError(
        f"{name} already lies in {folder} with another content ({existing.source}). Nothing was changed.",
        f"Take another name, or delete {place_of(name, folder)} and import again.",
    )


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name) is not None


def _cached_names(folder: Path) -> list[str]:
    arrays = folder / "arrays"
    return sorted(place.name for place in arrays.iterdir() if _is_name(place.name)) if arrays.is_dir() else []


def _listed(name: str, folder: Path) -> ListedDataset:
    try:
        return ListedDataset(name, name in BUILTIN, _checked(name, folder), None)
    except DataError as error:
        return ListedDataset(name, name in BUILTIN, None, str(error))


def _unknown(name: str, folder: Path) -> tuple[str, str]:
    """Message and hint for a dataset that is not in the cache."""
    if name in BUILTIN:
        return f"{name} is not in {folder} yet.", sources.ways_to_bring_in(name, folder)
    known = list(dict.fromkeys([*BUILTIN, *_cached_names(folder)]))
    return (
        f"There is no dataset '{name}' in {folder}{did_you_mean(name, known)} (known: {', '.join(known)})",
        f"Bring it in with `clbench data import {name} PATH`.",
    )


def _damaged(path: Path, name: str, folder: Path, what: object) -> DataError:
    again = f"`clbench data import {name} PATH`"
    if name in BUILTIN:
        again = f"`clbench data fetch {name}` or {again}"
    return DataError(
        f"{path} is damaged: {what}. It was not used.",
        f"See `clbench data verify`, then delete {place_of(name, folder)} and run {again}.",
    )


def _checked(name: str, folder: Path) -> DatasetInfo | None:
    """`describe`, and a look at the four files' sizes and headers."""
    info = describe(name, folder)
    if info is not None:
        for array in ARRAYS:
            path = place_of(name, folder) / f"{array}.npy"
            try:
                _check_header(path, array, info)
            except (OSError, ValueError) as error:
                raise _damaged(path, name, folder, error) from error
    return info


def _check_header(path: Path, array: str, info: DatasetInfo) -> None:
    """Raises ValueError or OSError where the file's header or size is not what `info` says of that array."""
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


def _read_info(name: str, folder: Path) -> DatasetInfo:
    path = place_of(name, folder) / "dataset.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or stored.pop("format", None) != FORMAT:
            raise ValueError(f"it is not in format {FORMAT}")
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
        }
        info = DatasetInfo(**fields)
        _check_types(info)
        if info.name != name:
            raise ValueError(f"it is of a dataset named {info.name!r}")
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, name, folder, error) from error
    return info


def _check_types(info: DatasetInfo) -> None:
    texts = (info.name, info.sha256, info.source, *info.classes)
    counts = (*info.shape, info.train_size, info.test_size, info.bytes)
    if not (
        all(isinstance(text, str) for text in texts)
        and all(type(count) is int and count > 0 for count in counts)
        and all(isinstance(level, float) for level in (*info.mean, *info.std))
        and len(info.shape) == 3
        and len(info.mean) == len(info.std) == info.shape[2]
    ):
        raise ValueError("a field is not of its type")


def _problem(name: str, folder: Path) -> str | None:
    """What is wrong with the cached dataset `name`, found by reading all of it."""
    try:
        _check_content(name, folder)
    except DataError as error:
        return str(error)
    return None


def _check_content(name: str, folder: Path) -> None:
    """Raises DataError where the cached dataset is not, to the last byte, what its dataset.json says."""
    info = _checked(name, folder)
    if info is None:
        return
    try:
        measured = _measure(place_of(name, folder), name, info.classes, info.source)
    except (OSError, ValueError) as error:
        raise _damaged(place_of(name, folder), name, folder, error) from error
    for field in ("sha256", "mean", "std", "bytes"):
        said, found = getattr(info, field), getattr(measured, field)
        if said != found:
            raise _damaged(place_of(name, folder), name, folder, f"its {field} is {found}, dataset.json says {said}")


def _measure(place: Path, name: str, classes: tuple[str, ...], source: str) -> DatasetInfo:
    """Reads the four .npy files in `place` once and says what they are; raises ValueError where they are no dataset."""
    digest = hashlib.sha256()
    shapes: dict[str, tuple[int, ...]] = {}
    counted: dict[str, npt.NDArray[np.int64]] = {}
    size = 0
    for array in ARRAYS:
        with (place / f"{array}.npy").open("rb") as file:
            shape, _, dtype = read_npy_header(file)
            shapes[array] = shape
            size += math.prod(shape) * dtype.itemsize
            digest.update(f"{array} {dtype.str} {shape}\n".encode())
            if array.startswith("x"):
                counted[array] = _count_levels(file, shape[-1], digest.update)
            else:
                counted[array] = _count_labels(file, array, classes, digest.update)
    for images, labels in (("x_train", "y_train"), ("x_test", "y_test")):
        if shapes[images][0] != shapes[labels][0]:
            raise ValueError(f"{images} has {shapes[images][0]} images and {labels} {shapes[labels][0]} labels")
    if shapes["x_train"][1:] != shapes["x_test"][1:]:
        raise ValueError(f"x_train has images of {shapes['x_train'][1:]}, x_test of {shapes['x_test'][1:]}")
    train_size, height, width, channels = shapes["x_train"]
    moments = [_mean_and_deviation(levels) for levels in counted["x_train"]]
    return DatasetInfo(
        name=name,
        classes=classes,
        shape=(height, width, channels),
        train_size=train_size,
        test_size=shapes["x_test"][0],
        mean=tuple(mean for mean, _ in moments),
        std=tuple(deviation for _, deviation in moments),
        sha256=digest.hexdigest(),
        source=source,
        bytes=size,
    )


def _count_levels(file: IO[bytes], channels: int, digest: Callable[[bytes], None]) -> npt.NDArray[np.int64]:
    """How often every grey level occurs in each channel: (channels, 256). `digest` gets every byte that is read."""
    levels = np.zeros((channels, 256), dtype=np.int64)
    while chunk := file.read(CHUNK):
        digest(chunk)
        pixels = np.frombuffer(chunk, dtype=np.uint8).reshape(-1, channels)
        for channel in range(channels):
            levels[channel] += np.bincount(pixels[:, channel], minlength=256)
    return levels


def _count_labels(
    file: IO[bytes], array: str, classes: tuple[str, ...], digest: Callable[[bytes], None]
) -> npt.NDArray[np.int64]:
    """How often every class occurs: (classes,). `digest` gets every byte that is read.

    Raises ValueError where a label is none of the classes, or a class does not occur.
    """
    counts = np.zeros(len(classes), dtype=np.int64)
    while chunk := file.read(CHUNK):
        digest(chunk)
        labels = np.frombuffer(chunk, dtype=np.int64)
        if labels.min() < 0 or labels.max() >= len(classes):
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(f"{array} has the label {wrong}, but the labels of {len(classes)} classes start at 0")
        counts += np.bincount(labels, minlength=len(classes))
    if not counts.all():
        absent = int(np.argmin(counts))
        raise ValueError(f"{array} has no image of class {absent} ({classes[absent]!r})")
    return counts


def _mean_and_deviation(levels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Mean and standard deviation of pixels scaled to 0 .. 1, from how often each of the 256 levels occurs.

    In whole numbers until the last division, so that every machine gets the same last bit.
    """
    counts = [int(count) for count in levels]
    pixels = sum(counts)
    total = sum(level * count for level, count in enumerate(counts))
    squares = sum(level**2 * count for level, count in enumerate(counts))
    return total / (255 * pixels), math.sqrt(pixels * squares - total**2) / (255 * pixels)


def _check_builtin(info: DatasetInfo) -> None:
    """Raises ValueError where a dataset that has a built-in's name is not of that one's size."""
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
        report(f"waiting for another process that prepares {name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
