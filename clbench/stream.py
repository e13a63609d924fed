"""The stream of a run: Avalanche's experiences over our arrays, and the test set."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clbench.batches import Images, Scaling, held_out
from clbench.datasets import open_dataset
from clbench.errors import DataError
from clbench.evaluation import TestSet
from clbench.metrics import Setting

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Avalanche imports optional packages that warn of what else they could use
    from avalanche.benchmarks import nc_benchmark


class ArrayDataset(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A sample at a time, as Avalanche's own plug-ins read it. The engine takes whole batches instead."""

    def __init__(self, images: Images, scaling: Scaling, labels: Tensor) -> None:
        self.images, self.scaling = images, scaling
        self.targets: list[int] = labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.scaling(self.images.take(torch.tensor([row])))[0], self.targets[row]


def build_stream(
    train: ArrayDataset, test: ArrayDataset, classes_per_experience: tuple[int, ...], class_order: tuple[int, ...]
) -> Any:
    """Return Avalanche's class-incremental benchmark (an NCScenario) of the two datasets.

    Its labels are positions in `class_order`, so that the classes of experience 0 are 0, 1, … Every class order is
    given explicitly: Avalanche's `seed` would reseed torch's global generator.
    """
    return nc_benchmark(
        train,
        test,
        n_experiences=len(classes_per_experience),
        task_labels=False,
        fixed_class_order=list(class_order),
        per_exp_classes=dict(enumerate(classes_per_experience)),
        class_ids_from_zero_from_first_exp=True,
    )


def experience_rows(benchmark: Any, index: int) -> Tensor:
    """Return the rows of the training arrays that belong to an experience, ascending, (n,)."""
    return torch.tensor(sorted(benchmark.train_exps_patterns_assignment[index]))


@dataclass(frozen=True)
class Stream:
    """Everything that a run reads and never changes."""

    benchmark: Any
    """Avalanche's NCScenario."""

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


# Avalanche walks over every sample several times to make a stream, which takes as long as training one experience of
# MNIST. The strategies that a process runs one after another on the same seed share it.
@lru_cache(maxsize=1)
def open_stream(
    dataset: str,
    sha256: str,
    folder: Path,
    classes_per_experience: tuple[int, ...],
    class_order: tuple[int, ...],
    setting: Setting,
    padding: int,
    pixels: str,
    precision: str,
    device: str,
    share_held_out: float = 0.0,
) -> Stream:
    """Open a dataset and divide it. `padding`, `pixels` and `precision` as in Recipe.

    With `share_held_out` this share of each class's training data takes the place of the test set, which is not read.

    Raises DataError where the dataset is not at hand or is another one than that of hash `sha256`.
    """
    data = open_dataset(dataset, folder)
    if data.info.sha256 != sha256:
        raise DataError(f"dataset {dataset} changed after the run was planned", "Start the command again.")
    place = torch.device(device)
    mean, std = _padded_statistics(data.info.shape, data.info.mean, data.info.std, padding)
    scaling = Scaling(pixels, mean, std, place)
    (x_train, y_train), (x_test, y_test) = (data.x_train, data.y_train), (data.x_test, data.y_test)
    if share_held_out:
        (x_train, y_train), (x_test, y_test) = _held_out(x_train, y_train, share_held_out)
    train, test = (Images(_padded(images, padding), place) for images in (x_train, x_test))
    position = np.argsort(class_order)  # class id -> position in the class order
    test_positions = torch.from_numpy(position[y_test])
    return Stream(
        benchmark=build_stream(
            ArrayDataset(train, scaling, torch.from_numpy(y_train)),
            ArrayDataset(test, scaling, torch.from_numpy(y_test)),
            classes_per_experience,
            class_order,
        ),
        images=train,
        scaling=scaling,
        positions=torch.from_numpy(position[y_train]),
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
