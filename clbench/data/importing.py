"""Brings a user's own dataset into the cache: an .npz as Keras names its arrays, or a folder of PNG images.

The file is somebody else's: nothing in it is executed or unpickled, what it declares is checked against what it holds
before it is believed, and images go to disk a few at a time. A file that is refused stays where it lies.
"""

from __future__ import annotations

import lzma
import math
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from clbench.data.datasets import (
    ARRAYS,
    CHUNK,
    DISK_FULL,
    MOST_CLASSES,
    DatasetInfo,
    Report,
    building,
    check_name,
    describe,
    npy_file,
    publish,
    read_npy_header,
    silent,
)
from clbench.errors import DataError

MOST_BYTES_OF_CLASS_NAMES = 16 << 20
EXPECTED = (
    "Expected: an .npz with x_train, y_train, x_test, y_test (uint8 images, labels 0 .. K-1), "
    "or a folder of train/CLASS/*.png and test/CLASS/*.png."
)
# What a crafted or damaged zip or PNG makes the readers raise.
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    RuntimeError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    PIL.Image.DecompressionBombError,
    PIL.Image.DecompressionBombWarning,
)


def import_dataset(name: str, path: Path, folder: Path, report: Report = silent) -> DatasetInfo:
    """Checks the dataset at `path`, copies it into the cache in `folder` under `name`, and says what it is.

    An .npz holds x_train and x_test, uint8 (n, height, width) or (n, height, width, channels) with 1 or 3 channels;
    y_train and y_test, whole numbers (n,) or (n, 1), every class 0 .. K-1 in both; and, if it likes, `classes`, K
    names. A folder holds train/CLASS/*.png and test/CLASS/*.png, all of one size and of mode L or RGB; its classes
    are numbered in the order of their names; hidden files are skipped.

    Under a built-in's name it must have that dataset's shape, sizes and number of classes. Raises UsageError for an
    impossible name, DataError where the file is refused or the name is taken by another content, MachineError where
    the cache cannot be written. `report` gets a sentence before the copying.
    """
    check_name(name)
    if not path.exists():
        raise DataError(f"There is no {path}.", EXPECTED)
    describe(name, folder)  # a damaged cache of that name is mended first
    with building(name, folder, report) as place:
        report(f"importing {path} as {name}")
        classes = _copy_folder(path, place) if path.is_dir() else _copy_npz(path, place)
        try:
            return publish(place, name, folder, classes, f"imported from {path.name}", report)
        except ValueError as error:
            raise _refused(path, error) from error


@dataclass(frozen=True)
class _Member:
    """An array in an .npz, as its npy header declares it; `start` is the header's length in bytes."""

    entry: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    start: int


def _copy_npz(path: Path, place: Path) -> tuple[str, ...]:
    """Copies the four arrays of an .npz into `place` and returns the classes' names."""
    with _refusing(path), zipfile.ZipFile(path) as archive:
        present = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        if missing := [array for array in ARRAYS if array not in present]:
            raise ValueError(f"it has no {', '.join(missing)}")
        members = {array: _member(archive, present[array]) for array in (*ARRAYS, "classes") if array in present}
        shapes = {array: _checked_shape(array, members[array]) for array in ARRAYS}
        _check_space(place, sum(math.prod(shape) * (1 if len(shape) == 4 else 8) for shape in shapes.values()))
        most = 0
        for array in ARRAYS:
            if array.startswith("x"):
                _copy_images(archive, members[array], shapes[array], place / f"{array}.npy")
            else:
                most = max(most, _copy_labels(archive, members[array], array, place / f"{array}.npy"))
        if "classes" in members:
            return _class_names(archive, members["classes"])
        return tuple(str(label) for label in range(most + 1))


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> _Member:
    """Reads an array's header only; raises ValueError where it is not exactly what the zip holds."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is compressed in a way that numpy never uses")
    with archive.open(entry) as file:
        try:
            shape, fortran_order, dtype = read_npy_header(file)
        except ValueError as error:
            raise ValueError(f"{entry.filename}: {error}") from error
        start = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{entry.filename} holds Python objects, which are never unpickled")
    if any(length < 1 for length in shape):
        raise ValueError(f"{entry.filename} is empty: its shape is {shape}")
    if fortran_order:
        raise ValueError(f"{entry.filename} is in Fortran order; save np.ascontiguousarray of it")
    declared = start + math.prod(shape) * dtype.itemsize
    if declared != entry.file_size:
        raise ValueError(f"the header of {entry.filename} claims {declared} bytes, the zip {entry.file_size}")
    return _Member(entry, shape, dtype, start)


def _checked_shape(array: str, member: _Member) -> tuple[int, ...]:
    """The shape that the array gets in the cache: (n, height, width, channels), or (n,) for labels."""
    shape = member.shape
    if array.startswith("y"):
        if member.dtype.kind not in "iu" or not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise ValueError(f"{array} must be whole numbers (n,) or (n, 1), it is {member.dtype} {shape}")
        return shape[:1]
    if member.dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise ValueError(
            f"{array} must be uint8 (n, height, width) or (n, height, width, 1 or 3), it is {member.dtype} {shape}"
        )
    return shape if len(shape) == 4 else (*shape, 1)


def _check_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ValueError(f"it unpacks to {needed:,} bytes, and {free:,} are free in {place.parent.parent}")


def _chunks(archive: zipfile.ZipFile, member: _Member) -> Iterator[bytes]:
    """The array's bytes; raises ValueError where there are fewer than declared.

    zipfile never reads more than the declared size, and raises BadZipFile where the sum of what it read is wrong.
    """
    left = member.entry.file_size - member.start
    with archive.open(member.entry) as file:
        file.read(member.start)
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise ValueError(f"{member.entry.filename} ends {left} bytes too early")
            left -= len(chunk)
            yield chunk


def _copy_images(archive: zipfile.ZipFile, member: _Member, shape: tuple[int, ...], to: Path) -> None:
    with npy_file(to, np.dtype(np.uint8), shape) as file:
        for chunk in _chunks(archive, member):
            file.write(chunk)


def _copy_labels(archive: zipfile.ZipFile, member: _Member, array: str, to: Path) -> int:
    """Copies labels as int64 and returns the largest."""
    largest = 0
    with npy_file(to, np.dtype(np.int64), member.shape[:1]) as file:
        for chunk in _chunks(archive, member):
            labels = np.frombuffer(chunk, dtype=member.dtype)
            largest = max(largest, int(labels.max()))
            if largest >= MOST_CLASSES:
                raise ValueError(f"{array} has the label {largest}; labels are 0 .. K-1, K at most {MOST_CLASSES}")
            file.write(labels.astype(np.int64).data)
    return largest


def _class_names(archive: zipfile.ZipFile, member: _Member) -> tuple[str, ...]:
    if member.dtype.kind != "U" or len(member.shape) != 1 or member.entry.file_size > MOST_BYTES_OF_CLASS_NAMES:
        raise ValueError(f"classes must be a row of strings, it is {member.dtype} {member.shape}")
    values = np.frombuffer(b"".join(_chunks(archive, member)), dtype=member.dtype)
    return _checked_names([str(value) for value in values])


def _checked_names(names: list[str]) -> tuple[str, ...]:
    for name in names:
        if not name.strip() or not name.isprintable():
            raise ValueError(f"{name!r} cannot be the name of a class")
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    return tuple(names)


def _copy_folder(path: Path, place: Path) -> tuple[str, ...]:
    """Copies a folder of images into `place` and returns the classes' names."""
    root = path.resolve()
    with _refusing(path):
        images = {part: _images_by_class(root, root / part) for part in ("train", "test")}
        if alone := sorted(images["train"].keys() ^ images["test"].keys()):
            raise ValueError(f"train and test must have the same classes; only one has {', '.join(alone)}")
        classes = _checked_names(list(images["train"]))
        if not 0 < len(classes) <= MOST_CLASSES:
            raise ValueError(f"it has {len(classes)} classes, not 1 to {MOST_CLASSES}")
    first = images["train"][classes[0]][0]
    with _refusing(first), _opened(first) as opened:
        mode, (width, height) = opened.mode, opened.size
    image_shape = (height, width, 3 if mode == "RGB" else 1)
    sizes = {part: sum(len(files) for files in images[part].values()) for part in images}
    with _refusing(path):
        _check_space(place, sum(sizes.values()) * (math.prod(image_shape) + 8))
    for part, size in sizes.items():
        with npy_file(place / f"x_{part}.npy", np.dtype(np.uint8), (size, *image_shape)) as file:
            for files in images[part].values():
                for image in files:
                    file.write(_pixels(image, mode, (width, height)))
        with npy_file(place / f"y_{part}.npy", np.dtype(np.int64), (size,)) as file:
            for label, files in enumerate(images[part].values()):
                file.write(np.full(len(files), label, dtype=np.int64).data)
    return classes


def _images_by_class(root: Path, part: Path) -> dict[str, list[Path]]:
    """Class name -> its PNG files, both in the order of their names. Raises ValueError for anything else in there."""
    if not part.is_dir():
        raise ValueError(f"it has no folder {part.name}")
    found: dict[str, list[Path]] = {}
    for folder in _visible(root, part):
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder of a class")
        found[folder.name] = _visible(root, folder)
        if not found[folder.name]:
            raise ValueError(f"{folder} has no images")
        for image in found[folder.name]:
            if image.suffix.lower() != ".png" or not image.is_file():
                raise ValueError(f"{image} is no PNG file")
    return found


def _visible(root: Path, folder: Path) -> list[Path]:
    """What lies in `folder`, without hidden files; raises ValueError where a link leads out of `root`."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for entry in entries:
        if not entry.resolve().is_relative_to(root):
            raise ValueError(f"{entry} is a link that leaves the folder")
    return entries


def _pixels(path: Path, mode: str, size: tuple[int, int]) -> bytes:
    """The pixels of a PNG, row by row. Raises DataError where it is damaged, or of another mode or (width, height)."""
    with _refusing(path):
        with _opened(path) as image:
            if (image.mode, image.size) != (mode, size):
                raise ValueError(f"it is {image.mode} {image.size}, the first image is {mode} {size}")
            image.verify()  # the checksums, which decoding does not look at; Pillow wants it opened anew after that
        with _opened(path) as image:
            return image.tobytes()


@contextmanager
def _opened(path: Path) -> Iterator[PIL.Image.Image]:
    """A PNG whose pixels are not decoded yet; raises ValueError for a mode that is neither L nor RGB."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        with PIL.Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("L", "RGB"):
                raise ValueError(f"its mode is {image.mode}, not L or RGB")
            yield image


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what is wrong with the file at `path` into a DataError that names it; a full disk is no fault of its."""
    try:
        yield
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        raise _refused(path, error) from error


def _refused(path: Path, why: Exception) -> DataError:
    return DataError(f"{path} was not imported: {why}. It was left as it is.", EXPECTED)
