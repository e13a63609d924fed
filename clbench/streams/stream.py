"""The stream of a run: Avalanche's experiences over our arrays, and the test set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clbench.avalanche.importing import importing_avalanche
from clbench.base.settings import Setting
from clbench.data.batches import Images, Scaling, held_out
from clbench.data.datasets import open_dataset
from clbench.data.read_ahead import ReadAhead
from clbench.errors import DataError
from clbench.evaluation.test_set import TestSet

with importing_avalanche():
    from avalanche.benchmarks import CLScenario, DatasetExperience, EagerCLStream
    from avalanche.benchmarks.utils import DataAttribute, TaskAwareSupervisedClassificationDataset
    from avalanche.benchmarks.utils.flat_data import ConstantSequence


class ArrayDataset(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A sample at a time, as Avalanche's own plug-ins read it. The engine takes whole batches instead."""

    def __init__(self, images: Images, scaling: Scaling, rows: Tensor, labels: Tensor) -> None:
        """The images at `rows` (n,), and their `labels` (n,)."""
        self.images, self.scaling, self.rows = images, scaling, rows
        self.targets: list[int] = labels.tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self.scaling(self.images.take(self.rows[position : position + 1]))[0], self.targets[position]


class ClassExperience(DatasetExperience):  # type: ignore[misc]
    """One of Avalanche's experiences, with its classes. Its dataset is made when somebody asks for it.

    Avalanche walks over every sample to make one, which takes as long as training an epoch; only its plug-ins need it.
    """

    def __init__(self, make_dataset: Callable[[], ArrayDataset], classes: range, total: int) -> None:
        """`classes` are the experience's own, positions in the class order, of `total`."""
        super().__init__(dataset=None)
        self._make_dataset = make_dataset
        self._made: Any = None
        self.task_label, self.task_labels = 0, [0]
        self.classes_in_this_experience = list(classes)
        self.previous_classes = list(range(classes.start))
        self.classes_seen_so_far = list(range(classes.stop))
        self.future_classes = list(range(classes.stop, total))

    @property
    def dataset(self) -> Any:
        """Avalanche's classification dataset of the experience's training samples."""
        if self._made is None:
            samples = self._make_dataset()
            labels = DataAttribute(samples.targets, "targets")
            tasks = DataAttribute(ConstantSequence(0, len(samples)), "targets_task_labels", use_in_getitem=True)
            self._made = TaskAwareSupervisedClassificationDataset([samples], data_attributes=[labels, tasks])
        return self._made


class ClassIncrementalStream(CLScenario):  # type: ignore[misc]
    """Avalanche's class-incremental benchmark of our arrays; its labels are positions in the class order."""

    def __init__(self, images: Images, scaling: Scaling, positions: Tensor, sizes: tuple[int, ...]) -> None:
        """`positions` (n,) of all `images`; experience i brings the next `sizes[i]` of them."""
        ends = np.cumsum(sizes)
        experience = np.repeat(np.arange(len(sizes)), sizes)[positions.numpy()]  # (n,)
        order = np.argsort(experience, kind="stable")
        parts = np.split(order, np.searchsorted(experience[order], np.arange(1, len(sizes))))
        self.rows = tuple(torch.from_numpy(part) for part in parts)
        """Rows of the training arrays that belong to each experience, ascending, (n,) each."""

        self.n_classes, self.n_classes_per_exp, self.n_experiences = sum(sizes), list(sizes), len(sizes)

        def make(rows: Tensor) -> ClassExperience:
            index = int(experience[rows[0]])
            classes = range(int(ends[index]) - sizes[index], int(ends[index]))
            return ClassExperience(
                lambda: ArrayDataset(images, scaling, rows, positions[rows]), classes, self.n_classes
            )

        super().__init__([EagerCLStream("train", [make(rows) for rows in self.rows], benchmark=self)])


@dataclass(frozen=True)
class Stream:
    """Everything that a run reads and never changes."""

    benchmark: ClassIncrementalStream

    images: Images
    """Training images."""

    scaling: Scaling
    positions: Tensor
    """Position in the class order of each training image's class, (n,)."""

    test_set: TestSet
    test_labels: npt.NDArray[np.int64]
    """Class id of each test image, (n,)."""

    shape: tuple[int, int, int]
    """Height, width and channels."""


# The strategies that a process runs one after another on the same seed share the arrays, padded where they are.
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
) -> Stream:
    """Open a dataset and divide it. `padding`, `normalization` and `precision` as in Recipe.

    With `share_held_out` this share of each class's training data takes the place of the test set, which is not read.

    Raises DataError where the dataset is not at hand or is another one than that of hash `sha256`.
    """
    data = open_dataset(dataset, folder)
    if data.info.sha256 != sha256:
        raise DataError(f"dataset {dataset} changed after the run was planned", "Start the command again.")
    place = torch.device(device)
    mean, std = _padded_statistics(data.info.shape, data.info.mean, data.info.std, padding)
    scaling = Scaling(normalization, mean, std, place)
    (x_train, y_train), (x_test, y_test) = (data.x_train, data.y_train), (data.x_test, data.y_test)
    if share_held_out:
        (x_train, y_train), (x_test, y_test) = _held_out(x_train, y_train, share_held_out)
    train, test = (_images(_padded(images, padding), place, data.kept_in_memory) for images in (x_train, x_test))
    position = np.argsort(class_order)  # class id -> position in the class order
    positions, test_positions = torch.from_numpy(position[y_train]), torch.from_numpy(position[y_test])
    return Stream(
        benchmark=ClassIncrementalStream(train, scaling, positions, classes_per_experience),
        images=train,
        scaling=scaling,
        positions=positions,
        test_set=TestSet(test, scaling, test_positions, class_order, classes_per_experience, precision, setting),
        test_labels=y_test,
        shape=(data.info.shape[0] + 2 * padding, data.info.shape[1] + 2 * padding, data.info.shape[2]),
    )


Labelled = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def _held_out(x: npt.NDArray[np.uint8], y: npt.NDArray[np.int64], share: float) -> tuple[Labelled, Labelled]:
    """Divide training data into what is trained on and what is judged by, the same way for every run."""
    generator = torch.Generator().manual_seed(0)
    parts = held_out(torch.arange(len(y)), torch.from_numpy(y), share, generator)
    kept, held = ((x[rows.numpy()], y[rows.numpy()]) for rows in parts)
    return kept, held


def _images(images: npt.NDArray[np.uint8], device: torch.device, kept_in_memory: bool) -> Images:
    if kept_in_memory or not isinstance(images, np.memmap):  # what was padded or divided is a copy in memory
        return Images(images, device)
    return Images(images, device, ReadAhead(images))


def _padded(images: npt.NDArray[np.uint8], padding: int) -> npt.NDArray[np.uint8]:
    return np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0))) if padding else images


def _padded_statistics(
    shape: tuple[int, int, int], mean: tuple[float, ...], std: tuple[float, ...], padding: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of images when zeros are put around them."""
    share = shape[0] * shape[1] / ((shape[0] + 2 * padding) * (shape[1] + 2 * padding))
    means = tuple(share * m for m in mean)
    squares = tuple(share * (s * s + m * m) for m, s in zip(mean, std, strict=True))
    return means, tuple(math.sqrt(square - m * m) for square, m in zip(squares, means, strict=True))
