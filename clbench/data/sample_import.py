"""Imports images that come one by one, with their labels, into the cache."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clbench.data.cache import Report, building, describe, publish, silent
from clbench.data.dataset_info import DatasetInfo
from clbench.data.npy_files import npy_file


@dataclass(frozen=True)
class Samples:
    """The training or the test part of a dataset."""

    labels: npt.NDArray[np.int64]
    """(n,), 0 .. K-1."""

    images: Callable[[], Iterator[npt.NDArray[np.uint8]]]
    """Yields n images (height, width, channels), all of one shape."""


def import_samples(
    name: str,
    parts: Mapping[str, Samples],
    classes: tuple[str, ...],
    split: str,
    source: str,
    folder: Path,
    report: Report = silent,
    domains: tuple[str, ...] | None = None,
) -> DatasetInfo:
    """Write the parts `train` and `test` into the cache in `folder` as `name`, and describe the dataset.

    `domains` as in DatasetInfo. If two processes import the same dataset, one does it and the other waits. Raises
    ValueError for images of several shapes and for a class that one of the parts lacks, MachineError if the cache
    cannot be written.
    """
    with building(name, folder, report) as place:
        if info := describe(name, folder):
            return info
        for part, samples in parts.items():
            _write_images(place / f"x_{part}.npy", samples)
            with npy_file(place / f"y_{part}.npy", np.dtype(np.int64), samples.labels.shape) as file:
                file.write(samples.labels.data)
        return publish(place, name, folder, classes, source, report, split, domains=domains)


def _write_images(path: Path, samples: Samples) -> None:
    images = samples.images()
    first = next(images)
    with npy_file(path, np.dtype(np.uint8), (len(samples.labels), *first.shape)) as file:
        for image in itertools.chain([first], images):
            if image.shape != first.shape:
                raise ValueError(f"its images have several shapes, {first.shape} and {image.shape}; resize them to one")
            file.write(np.ascontiguousarray(image).data)
