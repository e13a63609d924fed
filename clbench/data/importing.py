"""Import a user's own dataset into the cache: an .npz with Keras's array names, or a folder of PNG images.

The file is not trusted: nothing in it is executed or unpickled, what its headers declare is checked against what it
holds, and images are copied a few at a time. A file that is refused is left unchanged.
"""

from __future__ import annotations

import lzma
import math
import re
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

from clbench.data.cache import DISK_FULL, Report, building, check_name, describe, publish, silent
from clbench.data.dataset_info import DatasetInfo
from clbench.data.npy_files import ARRAYS, CHUNK, npy_file, read_npy_header
from clbench.errors import DataError

# Predictions are stored as int16.
MAX_CLASSES = 32_767
MAX_CLASS_NAME_BYTES = 16 << 20
EXPECTED = (
    "Expected: an .npz with x_train, y_train, x_test, y_test (uint8 images, labels 0 .. K-1), "
    "or a folder of train/CLASS/*.png and test/CLASS/*.png."
)
# What zip and PNG readers raise on crafted or damaged files.
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
    """Check the dataset at `path`, copy it into the cache in `folder` as `name`, and describe it.

    An .npz holds x_train and x_test, uint8 (n, height, width) or (n, height, width, channels) with 1 or 3 channels;
    y_train and y_test, integers (n,) or (n, 1), every class 0 .. K-1 in both; and optionally `classes`, K
    names. A folder holds train/CLASS/*.png and test/CLASS/*.png, all of one size and of mode L or RGB; its classes
    are numbered in the order of their names, in numerical order if all are whole numbers; hidden files are skipped.

    Under a built-in's name it must have that dataset's shape, sizes and number of classes. Raises UsageError for an
    invalid name, DataError if the file is refused or the name is taken by different content, MachineError if
    the cache cannot be written.
    """
    check_name(name)
    if not path.exists():
        raise DataError(f"{path} does not exist.", EXPECTED)
    describe(name, folder)  # raises if the cache of that name is damaged
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
    """Copy the four arrays of an .npz into `place`; return the names of the classes."""
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
    """Read an array's header only. Raises ValueError if it does not match what the zip holds."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} uses a compression that numpy never writes")
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
    """Return the array's shape in the cache: (n, height, width, channels), or (n,) for labels."""
    shape = member.shape
    if array.startswith("y"):
        if member.dtype.kind not in "iu" or not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise ValueError(f"{array} must be integers (n,) or (n, 1), it is {member.dtype} {shape}")
        return shape[:1]
    if member.dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3)):
        raise ValueError(
            f"{array} must be uint8 (n, height, width) or (n, height, width, 1 or 3), it is {member.dtype} {shape}"
        )
    return shape if len(shape) == 4 else (*shape, 1)


def _check_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ValueError(f"it unpacks to {needed:,} bytes, but only {free:,} are free in {place.parent.parent}")


def _chunks(archive: zipfile.ZipFile, member: _Member) -> Iterator[bytes]:
    """Yield the array's bytes. Raises ValueError if there are fewer than declared.

    zipfile never reads more than the declared size, and raises BadZipFile if the sum of what it read is wrong.
    """
    remaining = member.entry.file_size - member.start
    with archive.open(member.entry) as file:
        file.read(member.start)
        while remaining:
            chunk = file.read(min(CHUNK, remaining))
            if not chunk:
                raise ValueError(f"{member.entry.filename} ends {remaining} bytes too early")
            remaining -= len(chunk)
            yield chunk


def _copy_images(archive: zipfile.ZipFile, member: _Member, shape: tuple[int, ...], to: Path) -> None:
    with npy_file(to, np.dtype(np.uint8), shape) as file:
        for chunk in _chunks(archive, member):
            file.write(chunk)


def _copy_labels(archive: zipfile.ZipFile, member: _Member, array: str, to: Path) -> int:
    """Copy labels as int64; return the largest."""
    largest = 0
    with npy_file(to, np.dtype(np.int64), member.shape[:1]) as file:
        for chunk in _chunks(archive, member):
            labels = np.frombuffer(chunk, dtype=member.dtype)
            largest = max(largest, int(labels.max()))
            if largest >= MAX_CLASSES:
                raise ValueError(f"{array} has the label {largest}; labels are 0 .. K-1, K at most {MAX_CLASSES}")
            file.write(labels.astype(np.int64).data)
    return largest


def _class_names(archive: zipfile.ZipFile, member: _Member) -> tuple[str, ...]:
    if member.dtype.kind != "U" or len(member.shape) != 1 or member.entry.file_size > MAX_CLASS_NAME_BYTES:
        raise ValueError(f"classes must be a row of strings, it is {member.dtype} {member.shape}")
    values = np.frombuffer(b"".join(_chunks(archive, member)), dtype=member.dtype)
    return _checked_names([str(value) for value in values])


def _checked_names(names: list[str]) -> tuple[str, ...]:
    for name in names:
        if not name.strip() or not name.isprintable():
            raise ValueError(f"invalid class name {name!r}")
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    return tuple(names)


def _copy_folder(path: Path, place: Path) -> tuple[str, ...]:
    """Copy a folder of images into `place`; return the names of the classes."""
    root = path.resolve()
    with _refusing(path):
        images = {part: _images_by_class(root, root / part) for part in ("train", "test")}
        if unpaired := sorted(images["train"].keys() ^ images["test"].keys()):
            raise ValueError(f"train and test must have the same classes; only one of them has {', '.join(unpaired)}")
        classes = _checked_names(_ordered(images["train"]))
        if not 0 < len(classes) <= MAX_CLASSES:
            raise ValueError(f"it has {len(classes)} classes, not 1 to {MAX_CLASSES}")
    first = images["train"][classes[0]][0]
    with _refusing(first), _opened(first) as opened:
        mode, (width, height) = opened.mode, opened.size
    image_shape = (height, width, 3 if mode == "RGB" else 1)
    sizes = {part: sum(len(files) for files in images[part].values()) for part in images}
    with _refusing(path):
        _check_space(place, sum(sizes.values()) * (math.prod(image_shape) + 8))
    for part, size in sizes.items():
        with npy_file(place / f"x_{part}.npy", np.dtype(np.uint8), (size, *image_shape)) as file:
            for name in classes:
                for image in images[part][name]:
                    file.write(_pixels(image, mode, (width, height)))
        with npy_file(place / f"y_{part}.npy", np.dtype(np.int64), (size,)) as file:
            for label, name in enumerate(classes):
                file.write(np.full(len(images[part][name]), label, dtype=np.int64).data)
    return classes


def _ordered(names: Iterable[str]) -> list[str]:
    """Return names of classes in alphabetical order; in numerical order if all are whole numbers."""
    given = sorted(names)
    numbers = all(re.fullmatch(r"[0-9]{1,18}", name) for name in given)
    return sorted(given, key=int) if numbers else given


def _images_by_class(root: Path, part: Path) -> dict[str, list[Path]]:
    """Return the PNG files of each class, both sorted by name. Raises ValueError for any other file."""
    if not part.is_dir():
        raise ValueError(f"it has no folder {part.name}")
    found: dict[str, list[Path]] = {}
    for folder in _visible(root, part):
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a class folder")
        found[folder.name] = _visible(root, folder)
        if not found[folder.name]:
            raise ValueError(f"{folder} has no images")
        for image in found[folder.name]:
            if image.suffix.lower() != ".png" or not image.is_file():
                raise ValueError(f"{image} is not a PNG file")
    return found


def _visible(root: Path, folder: Path) -> list[Path]:
    """Return the entries of `folder` except hidden ones. Raises ValueError if a link leads out of `root`."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for entry in entries:
        if not entry.resolve().is_relative_to(root):
            raise ValueError(f"{entry} is a link that leads out of the folder")
    return entries


def _pixels(path: Path, mode: str, size: tuple[int, int]) -> bytes:
    """Return the pixels of a PNG, row by row. Raises DataError if it is damaged or its mode or size differs."""
    with _refusing(path):
        with _opened(path) as image:
            if (image.mode, image.size) != (mode, size):
                raise ValueError(f"it is {image.mode} {image.size}, the first image is {mode} {size}")
            image.verify()  # the checksums, which decoding ignores; Pillow requires reopening the file afterwards
        with _opened(path) as image:
            return image.tobytes()


@contextmanager
def _opened(path: Path) -> Iterator[PIL.Image.Image]:
    """Open a PNG without decoding its pixels yet. Raises ValueError for a mode other than L or RGB."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        with PIL.Image.open(path, formats=["PNG"]) as image:
            if image.mode not in ("L", "RGB"):
                raise ValueError(f"its mode is {image.mode}, not L or RGB")
            yield image


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn errors in reading the file at `path` into a DataError that names it, except those of a full disk."""
    try:
        yield
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        raise _refused(path, error) from error


def _refused(path: Path, why: Exception) -> DataError:
    return DataError(f"{path} was not imported: {why}. It was left unchanged.", EXPECTED)
