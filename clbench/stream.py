"""The Avalanche stream of a run: its experiences over our arrays."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from clbench.batches import Images, Scaling

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
