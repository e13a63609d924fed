"""The stream of a run: the training samples of each experience, and the test set."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clbench.base.incremental_setting import Setting
from clbench.data.batches import Images, MappedImages, Scaling, Unscaled, held_out
from clbench.data.datasets import open_dataset
from clbench.data.image_fit import Fit
from clbench.data.read_ahead import ReadAhead
from clbench.errors import DataError
from clbench.evaluation.test_set import TestSet
from clbench.streams.stream_kind import StreamKind

if TYPE_CHECKING:
    from avalanche.benchmarks import CLScenario


@dataclass(frozen=True)
class Stream:
    """The data of a run; read-only."""

    classes_per_experience: tuple[int, ...]

    rows: tuple[Tensor, ...]
    """Rows of the training arrays that belong to each experience, ascending, (n,) each."""

    images: Images
    """Training images."""

    scaling: Scaling
    positions: Tensor
    """Position in the class order of each training image's class, as training sees it, (n,)."""

    test_set: TestSet
    test_labels: npt.NDArray[np.int64]
    """Class id of each test image, (n,)."""

    shape: tuple[int, int, int]
    """Height, width and channels."""

    fit: Fit = "stretch"
    """How images of other sizes were brought to this shape, without a recipe's padding."""

    def as_avalanche(self) -> CLScenario:
        """Return the stream as an Avalanche benchmark, with a train and a test stream.

        Images are preprocessed as the recipe says, without augmentation; labels are positions in the class order. The
        test set of an experience has all test images of the classes that come in it, including those that return.
        """
        from clbench.avalanche.benchmark import LabelledRows, class_incremental  # takes seconds to import

        test = self.test_set
        train = LabelledRows(self.rows, self.positions, lambda rows: self.scaling(self.images.read(rows)))
        tested = [torch.isin(test.positions, torch.tensor(own)).nonzero().squeeze(1) for own in train.classes()]
        return class_incremental(
            self.classes_per_experience,
            train=train,
            test=LabelledRows(tested, test.positions, lambda rows: self.scaling(test.images.read(rows))),
        )


@dataclass(frozen=True)
class NetworkInput:
    """What a network expects of its images; None leaves a field to the images and the recipe."""

    size: int | None = None
    """Height and width in pixels."""

    channels: int | None = None
    """Channels to which grey images are repeated."""

    mean: tuple[float, ...] | None = None
    """Mean that is subtracted from the pixels, in 0..1, per channel."""

    std: tuple[float, ...] | None = None
    """What the pixels are then divided by, per channel."""


# Cached because a process often runs several strategies on the same seed, and padding copies the arrays.
@lru_cache(maxsize=1)
def open_stream(
    dataset: str,
    sha256: str,
    folder: Path,
    classes_per_experience: tuple[int, ...],
    class_order: tuple[int, ...],
    setting: Setting,
    padding: int,
    normalization: str,
    precision: str,
    device: str,
    share_held_out: float = 0.0,
    expected: NetworkInput | None = None,
    kind: StreamKind | None = None,
    split: tuple[int, ...] = (),
    seed: int = 0,
) -> Stream:
    """Open a dataset and divide it. `padding`, `normalization` and `precision` are as in Recipe; `expected` is what
    the network expects of its images, by default nothing.

    With `share_held_out`, this share of each class's training data replaces the test set, which is not read.

    A `kind` of stream makes the experiences from the `split`, drawing from `seed`; without one they are the classes in
    order.

    Raises DataError if the dataset is missing or its hash is not `sha256`.
    """
    data = open_dataset(dataset, folder)
    if data.info.sha256 != sha256:
        raise DataError(f"dataset {dataset} changed after the run was planned", "Rerun the same command.")
    place = torch.device(device)
    mean, std = _padded_statistics(data.info.shape, data.info.mean, data.info.std, padding)
    expected = expected or NetworkInput()
    if expected.mean is not None and expected.std is not None:
        mean, std, normalization = expected.mean, expected.std, "standardized"
    scaling = Scaling(normalization, mean, std, place, expected.size, expected.channels)
    height, width, channels = data.info.shape
    shape = (height + 2 * padding, width + 2 * padding, channels)
    values = (expected.size or shape[0]) * (expected.size or shape[1]) * (expected.channels or channels)
    (x_train, y_train), (x_test, y_test) = (data.x_train, data.y_train), (data.x_test, data.y_test)
    if share_held_out:
        (x_train, y_train), (x_test, y_test) = _held_out(x_train, y_train, share_held_out)
    kind = kind or StreamKind()
    maps = kind.pixel_maps(*shape[:2], seed)
    if maps is not None:
        y_train, y_test = (_in_every_domain(labels, len(maps), len(data.info.classes)) for labels in (y_train, y_test))
    train, test = (
        _images(_padded(images, padding), place, data.fits_in_memory, values, maps) for images in (x_train, x_test)
    )
    position = np.argsort(class_order)  # class id -> position in the class order
    positions, test_positions = torch.from_numpy(position[y_train]), torch.from_numpy(position[y_test])
    split = classes_per_experience if maps is not None or not split else split
    images = torch.bincount(positions, minlength=len(class_order)).tolist()
    kind.check_images(images, split)
    rows = kind.sampled(kind.rows(positions, split, seed), positions, seed)
    positions = kind.labels(positions, split, seed)
    return Stream(
        classes_per_experience=classes_per_experience,
        rows=rows,
        images=train,
        scaling=scaling,
        positions=positions,
        test_set=TestSet(test, scaling, test_positions, class_order, classes_per_experience, precision, setting),
        test_labels=y_test,
        shape=shape,
        fit=data.info.fit,
    )


def on_features(stream: Stream, train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> Stream:
    """Return the stream with the features of its training and test images, (n, f) each, instead of the images."""
    place = stream.images.device
    unscaled = Unscaled(place)
    return replace(
        stream,
        images=Images(train, place),
        scaling=unscaled,
        test_set=replace(stream.test_set, images=Images(test, place), scaling=unscaled),
        shape=(1, 1, train.shape[1]),
    )


Labelled = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def _held_out(x: npt.NDArray[np.uint8], y: npt.NDArray[np.int64], share: float) -> tuple[Labelled, Labelled]:
    """Split training data into a part to train on and a part to evaluate on, identically for every run."""
    generator = torch.Generator().manual_seed(0)
    parts = held_out(torch.arange(len(y)), torch.from_numpy(y), share, generator)
    kept, held = ((x[rows.numpy()], y[rows.numpy()]) for rows in parts)
    return kept, held


def _in_every_domain(labels: npt.NDArray[np.int64], domains: int, classes: int) -> npt.NDArray[np.int64]:
    """Return the labels of the images in one domain after another, each with its own classes."""
    return (labels[None] + classes * np.arange(domains)[:, None]).reshape(-1)


def _images(
    images: npt.NDArray[np.uint8],
    device: torch.device,
    fits_in_memory: bool,
    values: int,
    maps: Tensor | None,
) -> Images:
    if maps is not None:
        return MappedImages(images, device, maps, values)
    if fits_in_memory or not isinstance(images, np.memmap):  # padded or split arrays are copies in memory
        return Images(images, device, input_values=values)
    return Images(images, device, ReadAhead(images), values)


def _padded(images: npt.NDArray[np.uint8], padding: int) -> npt.NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0))) if padding else images


def _padded_statistics(
    shape: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...], padding: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of zero-padded images."""
    share = shape[0] * shape[1] / ((shape[0] + 2 * padding) * (shape[1] + 2 * padding))
    means = tuple(share * m for m in mean)
    squares = tuple(share * (s * s + m * m) for m, s in zip(mean, std, strict=True))
    return means, tuple(math.sqrt(square - m * m) for square, m in zip(squares, means, strict=True))
