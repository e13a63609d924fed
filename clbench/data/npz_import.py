"""Imports an .npz: images and labels as arrays, in the shapes and types in which they are usually stored."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from clbench.data.cache import Report
from clbench.data.holding_out import SHARE, held_out
from clbench.data.image_folders import ordered
from clbench.data.import_checks import balance, check_count, check_space, checked_names, few, refusing
from clbench.data.npy_files import ARRAYS, CHUNK, npy_file, read_npy_header

_MAX_LABEL_BYTES = 1 << 30
_MAX_IMAGE_BYTES = 256 << 20

Axes = Literal["NHW", "NHWC", "NCHW"]


def copy_npz(path: Path, place: Path, report: Report) -> tuple[str, ...]:
    """Copy the arrays of an .npz into `place`; return the names of the classes.

    It holds x_train, y_train, x_test and y_test, or x and y, of which a fifth of each class is held out for testing.
    Images are (n, height, width), (n, height, width, channels) or (n, channels, height, width) with 1 or 3 channels, of
    uint8, or of floats in 0..1 or 0..255. Labels are integers or strings, (n,) or (n, 1), or one-hot (n, K). An
    optional `classes` has the names of the classes 0 .. K-1. Raises DataError for anything else.
    """
    with refusing(path), zipfile.ZipFile(path) as archive:
        present = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
        wanted = ("x", "y") if {"x", "y"} <= present.keys() and "x_train" not in present else ARRAYS
        if missing := [array for array in wanted if array not in present]:
            raise ValueError(f"it has no {', '.join(missing)}")
        members = {array: _member(archive, present[array]) for array in (*wanted, "classes") if array in present}
        images = {array: _images(array, members[array]) for array in wanted if array.startswith("x")}
        check_space(place, sum(own.count * (math.prod(own.shape) + 8) for own in images.values()))
        labels = {array: _labels(archive, array, members[array]) for array in wanted if array.startswith("y")}
        for x, y in zip(images, labels, strict=True):
            if images[x].count != len(labels[y]):
                raise ValueError(f"{x} has {images[x].count} images and {y} {len(labels[y])} labels")
        classes, ids = _numbered(labels, _class_names(archive, members["classes"]) if "classes" in members else None)
        check_count(classes)
        parts = _parts(classes, ids, report)
        scale = _scale(archive, [own for own in images.values() if own.member.dtype.kind == "f"], report)
        for x, own in images.items():
            _copy_images(archive, own, scale, {part: rows for part, (of, rows) in parts.items() if of == x[1:]}, place)
    counts = []
    for part, (of, rows) in parts.items():
        chosen = ids[f"y{of}"][rows]
        with npy_file(place / f"y_{part}.npy", np.dtype(np.int64), chosen.shape) as file:
            file.write(chosen.data)
        counts.append(np.bincount(chosen, minlength=len(classes)).tolist())
    for sentence in balance(classes, *counts):
        report(sentence)
    return classes


@dataclass(frozen=True)
class _Member:
    """An array in an .npz, as its npy header declares it; `start` is the header's length in bytes."""

    entry: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    start: int


@dataclass(frozen=True)
class _Images:
    """An array of images, and how its axes are to be read."""

    member: _Member
    axes: Axes

    @property
    def count(self) -> int:
        return self.member.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: height, width and channels."""
        own = self.member.shape[1:]
        if self.axes == "NHW":
            return own[0], own[1], 1
        return (own[1], own[2], own[0]) if self.axes == "NCHW" else (own[0], own[1], own[2])


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


def _chunks(archive: zipfile.ZipFile, member: _Member, size: int = CHUNK) -> Iterator[bytes]:
    """Yield the array's bytes, `size` at a time. Raises ValueError if there are fewer than declared.

    zipfile never reads more than the declared size, and raises BadZipFile if the sum of what it read is wrong.
    """
    remaining = member.entry.file_size - member.start
    with archive.open(member.entry) as file:
        file.read(member.start)
        while remaining:
            chunk = file.read(min(size, remaining))
            remaining -= len(chunk)
            if remaining and len(chunk) < size:
                raise ValueError(f"{member.entry.filename} ends {remaining} bytes too early")
            yield chunk


# -- images -----------------------------------------------------------------------------------------------------------


def _images(array: str, member: _Member) -> _Images:
    """Return how to read an array of images. Raises ValueError if it is not one."""
    shape, dtype = member.shape, member.dtype
    axes: Axes | None = None
    if len(shape) == 3:
        axes = "NHW"
    elif len(shape) == 4 and shape[3] in (1, 3):
        axes = "NHWC"
    elif len(shape) == 4 and shape[1] in (1, 3):
        axes = "NCHW"
    if axes is None or not (dtype == np.uint8 or dtype.kind == "f"):
        raise ValueError(
            f"{array} must be uint8 or floats, (n, height, width), (n, height, width, 1 or 3) or "
            f"(n, 1 or 3, height, width); it is {dtype} {shape}"
        )
    if math.prod(shape[1:]) * dtype.itemsize > _MAX_IMAGE_BYTES:
        raise ValueError(f"{array} has images of {shape[1:]}, which are too large")
    return _Images(member, axes)


def _read(archive: zipfile.ZipFile, images: _Images) -> Iterator[npt.NDArray[np.generic]]:
    """Yield all images as they are stored, a few at a time."""
    member = images.member
    one = math.prod(member.shape[1:]) * member.dtype.itemsize
    for chunk in _chunks(archive, member, max(1, CHUNK // one) * one):
        yield np.frombuffer(chunk, dtype=member.dtype).reshape(-1, *member.shape[1:])


def _scale(archive: zipfile.ZipFile, images: Sequence[_Images], report: Report) -> float:
    """Return the factor that brings floats to 0..255. Raises ValueError if they are in neither known range."""
    if not images:
        return 1.0
    # An array, since Python's min and max may pass over what is not a number.
    extremes = np.array([values for own in images for values in _extremes(archive, own)])
    least, largest = float(extremes.min()), float(extremes.max())
    if not (least >= 0 and largest <= 255):  # also if one is not a number
        raise ValueError(f"its floats are from {least:g} to {largest:g}; they must be in 0..1 or in 0..255")
    high = 1 if largest <= 1 else 255
    report(f"its pixels are floats, assumed to be in 0..{high}")
    return 255 / high


def _extremes(archive: zipfile.ZipFile, images: _Images) -> Iterator[tuple[float, float]]:
    for values in _read(archive, images):
        yield float(values.min()), float(values.max())


def _copy_images(
    archive: zipfile.ZipFile, images: _Images, scale: float, parts: Mapping[str, npt.NDArray[np.bool_]], place: Path
) -> None:
    """Write the images of each part, those of the rows that are true, as (n, height, width, channels) of uint8."""
    with ExitStack() as opened:
        files = []
        for part, rows in parts.items():
            shape = (int(rows.sum()), *images.shape)
            files.append((rows, opened.enter_context(npy_file(place / f"x_{part}.npy", np.dtype(np.uint8), shape))))
        first = 0
        for values in _read(archive, images):
            if values.dtype != np.uint8:
                values = np.rint(values.astype(np.float64) * scale).astype(np.uint8)
            if images.axes == "NCHW":
                values = values.transpose(0, 2, 3, 1)
            for rows, file in files:
                file.write(np.ascontiguousarray(values[rows[first : first + len(values)]]).data)
            first += len(values)


# -- labels -----------------------------------------------------------------------------------------------------------


def _labels(archive: zipfile.ZipFile, array: str, member: _Member) -> npt.NDArray[np.generic]:
    """Return labels (n,) of integers or strings. Raises ValueError for anything else."""
    shape, kind = member.shape, member.dtype.kind
    if member.entry.file_size > _MAX_LABEL_BYTES:
        raise ValueError(f"{array} has {member.entry.file_size:,} bytes, which are too many for labels")
    one_hot = len(shape) == 2 and shape[1] > 1
    if not (one_hot or len(shape) == 1 or shape[1:] == (1,)) or kind not in ("iubf" if one_hot else "iubUS"):
        raise ValueError(
            f"{array} must be integers or strings (n,) or (n, 1), or one-hot (n, classes); it is {member.dtype} {shape}"
        )
    values: npt.NDArray[Any] = np.frombuffer(b"".join(_chunks(archive, member)), dtype=member.dtype).reshape(shape)
    if one_hot:
        if not (((values == 0) | (values == 1)).all() and (values.sum(1) == 1).all()):
            raise ValueError(f"{array} is {shape}, but not one-hot: each row must have a single 1, and otherwise 0")
        numbers: npt.NDArray[np.int64] = values.argmax(1)
        return numbers
    values = values.reshape(-1)
    if kind == "S":
        return np.char.decode(values, "utf-8")
    return values.astype(np.int8) if kind == "b" else values


def _numbered(
    labels: Mapping[str, npt.NDArray[np.generic]], named: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    """Return the classes' names, and the labels as their numbers. Raises ValueError for one without training images."""
    arrays = list(labels)
    if len({values.dtype.kind == "U" for values in labels.values()}) > 1:
        raise ValueError(f"{' and '.join(arrays)} are not of one kind, integers or strings")
    known: npt.NDArray[Any] = np.unique(labels[arrays[0]])
    if known.dtype.kind == "U":
        names = checked_names(ordered(known.tolist()))
        known = np.array(names)
    else:
        names = tuple(map(str, known.tolist()))
    if named is not None:
        if known.dtype.kind == "U" or not 0 <= int(known[0]) <= int(known[-1]) < len(named):
            raise ValueError(f"with `classes`, labels must be in 0..{len(named) - 1}, one for each name")
        if len(known) < len(named):
            absent = min(set(range(len(named))) - set(known.tolist()))
            raise ValueError(f"{arrays[0]} has no image of class {absent} ({named[absent]!r})")
        names = named
    order = np.argsort(known, kind="stable")
    ids = {}
    for array, values in labels.items():
        at = np.searchsorted(known, values, sorter=order).clip(max=len(known) - 1)
        if not (found := known[order[at]] == values).all():
            unknown = [str(value) for value in np.unique(values[~found]).tolist()]
            raise ValueError(f"{array} has labels that {arrays[0]} does not have: {few(unknown)}")
        ids[array] = order[at].astype(np.int64)
    return names, ids


def _parts(
    classes: tuple[str, ...], ids: Mapping[str, npt.NDArray[np.int64]], report: Report
) -> dict[str, tuple[str, npt.NDArray[np.bool_]]]:
    """Return, for `train` and `test`, the suffix of the names of their arrays, and which rows of these they are."""
    if "y" not in ids:
        return {part: (f"_{part}", np.ones(len(ids[f"y_{part}"]), dtype=bool)) for part in ("train", "test")}
    report(f"there is no test part: {SHARE:.0%} of each class's images are held out for testing")
    test = np.zeros(len(ids["y"]), dtype=bool)
    for label, name in enumerate(classes):
        own = np.flatnonzero(ids["y"] == label)
        test[own] = held_out(name, len(own))
    if not test.any():
        raise ValueError("there are no images for testing: each class has only one image")
    return {"train": ("", ~test), "test": ("", test)}


def _class_names(archive: zipfile.ZipFile, member: _Member) -> tuple[str, ...]:
    if member.dtype.kind != "U" or len(member.shape) != 1 or member.entry.file_size > _MAX_LABEL_BYTES:
        raise ValueError(f"classes must be a row of strings; it is {member.dtype} {member.shape}")
    values = np.frombuffer(b"".join(_chunks(archive, member)), dtype=member.dtype)
    return checked_names([str(value) for value in values])
