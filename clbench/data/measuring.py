"""Hash, sizes and pixel statistics of a dataset's four arrays, computed in one pass over its files."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clbench.data.dataset_info import DatasetInfo
from clbench.data.npy_files import ARRAYS, CHUNK, read_npy_header


class Measurement:
    """Measures a dataset's arrays in the order of ARRAYS, each given as bytes in portions of whole pixels or labels."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._digest = hashlib.sha256()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._moments = Moments(1)
        self._counts = np.zeros(len(classes), dtype=np.int64)
        self._array = ""
        self._size = 0

    def begin(self, array: str, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
        """Begin the next array. Raises ValueError if the previous one is not valid in a dataset."""
        self._finish_labels()
        self._array, self._shapes[array] = array, shape
        self._digest.update(f"{array} {dtype.str} {shape}\n".encode())
        self._size += math.prod(shape) * dtype.itemsize
        if array == "x_train":
            self._moments = Moments(shape[-1])

    def add(self, content: bytes | memoryview) -> None:
        """Take the next bytes of the array. Raises ValueError if a label is out of range."""
        self._digest.update(content)
        if self._array == "x_train":
            self._moments.add(np.frombuffer(content, dtype=np.uint8))
        elif self._array.startswith("y"):
            self._count_labels(np.frombuffer(content, dtype=np.int64))

    def _count_labels(self, labels: npt.NDArray[np.int64]) -> None:
        if labels.min() < 0 or labels.max() >= len(self.classes):
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(
                f"{self._array} has the label {wrong}, but the labels of {len(self.classes)} classes start at 0"
            )
        self._counts += np.bincount(labels, minlength=len(self.classes))

    def _finish_labels(self) -> None:
        if self._array == "y_train" and not self._counts.all():
            absent = int(np.argmin(self._counts))
            raise ValueError(f"y_train has no image of class {absent} ({self.classes[absent]!r})")

    def info(self, name: str, source: str) -> DatasetInfo:
        """Describe the dataset, after its last array. Raises ValueError if the arrays do not form one."""
        shapes = self._shapes
        for images, labels in (("x_train", "y_train"), ("x_test", "y_test")):
            if shapes[images][0] != shapes[labels][0]:
                raise ValueError(f"{images} has {shapes[images][0]} images and {labels} {shapes[labels][0]} labels")
        if shapes["x_train"][1:] != shapes["x_test"][1:]:
            raise ValueError(f"x_train has images of {shapes['x_train'][1:]}, x_test of {shapes['x_test'][1:]}")
        train_size, height, width, channels = shapes["x_train"]
        moments = self._moments.means_and_deviations()
        return DatasetInfo(
            name=name,
            classes=self.classes,
            shape=(height, width, channels),
            train_size=train_size,
            test_size=shapes["x_test"][0],
            mean=tuple(mean for mean, _ in moments),
            std=tuple(deviation for _, deviation in moments),
            sha256=self._digest.hexdigest(),
            source=source,
            bytes=self._size,
        )


def measure(place: Path, name: str, classes: tuple[str, ...], source: str) -> DatasetInfo:
    """Read the four .npy files in `place` and describe them. Raises ValueError if they do not form a dataset."""
    measurement = Measurement(classes)
    for array in ARRAYS:
        with (place / f"{array}.npy").open("rb") as file:
            shape, _, dtype = read_npy_header(file)
            measurement.begin(array, dtype, shape)
            while chunk := file.read(CHUNK):
                measurement.add(chunk)
    return measurement.info(name, source)


class Moments:
    """Sums of pixels and of their squares per channel, as integers, so that every machine gets the same last bit."""

    _WIDTH, _ROWS = 256, 256
    """Pixels that are summed side by side, and rows of them: a sum of 256 squares of 255 is exact in float32."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.pixels = 0
        self.sums = np.zeros(channels, dtype=np.int64)
        self.squares = np.zeros(channels, dtype=np.int64)

    def add(self, values: npt.NDArray[np.uint8]) -> None:
        """Take whole pixels, (pixels · channels,)."""
        self.pixels += len(values) // self.channels
        width = self._WIDTH * self.channels
        whole = len(values) // width * width
        rows = values[:whole].reshape(-1, width)
        for first in range(0, len(rows), self._ROWS):
            self._add(rows[first : first + self._ROWS].astype(np.float32))
        self._add(values[whole:].astype(np.float32)[None])

    def _add(self, values: npt.NDArray[np.float32]) -> None:
        """Add up to 256 rows of whole pixels, whose sums by column are exact."""
        self.sums += self._per_channel(values)
        self.squares += self._per_channel(np.square(values, out=values))

    def _per_channel(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        sums: npt.NDArray[np.int64] = values.sum(0).astype(np.int64).reshape(-1, self.channels).sum(0)
        return sums

    def means_and_deviations(self) -> list[tuple[float, float]]:
        """Return mean and standard deviation of each channel's pixels scaled to 0 .. 1."""
        return [
            _mean_and_deviation(self.pixels, int(total), int(squares))
            for total, squares in zip(self.sums, self.squares, strict=True)
        ]


def _mean_and_deviation(pixels: int, total: int, squares: int) -> tuple[float, float]:
    """Return mean and standard deviation of so many pixels, scaled to 0 .. 1. Exact up to the last division."""
    return total / (255 * pixels), math.sqrt(pixels * squares - total**2) / (255 * pixels)
