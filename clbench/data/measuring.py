"""Hash, sizes and pixel statistics of a dataset's four arrays, computed in one pass over its files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from clbench.data.dataset_info import DatasetInfo
from clbench.data.npy_files import ARRAYS, CHUNK, read_npy_header


def measure(place: Path, name: str, classes: tuple[str, ...], source: str) -> DatasetInfo:
    """Read the four .npy files in `place` and describe them. Raises ValueError if they do not form a dataset."""
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
    """Count how often each grey level occurs in each channel: (channels, 256). `digest` gets every byte read."""
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
    """Count how often each class occurs: (classes,). `digest` gets every byte read.

    Raises ValueError if a label is out of range or a class has no image.
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
    """Return mean and standard deviation of pixels scaled to 0 .. 1, from the counts of the 256 levels.

    Integer arithmetic up to the last division, so that every machine gets the same last bit.
    """
    counts = [int(count) for count in levels]
    pixels = sum(counts)
    total = sum(level * count for level, count in enumerate(counts))
    squares = sum(level**2 * count for level, count in enumerate(counts))
    return total / (255 * pixels), math.sqrt(pixels * squares - total**2) / (255 * pixels)
