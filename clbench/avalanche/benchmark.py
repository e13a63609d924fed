"""A clbench stream as an Avalanche benchmark: Avalanche's streams of experiences over clbench's arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clbench.avalanche.quiet_import import importing_avalanche

with importing_avalanche():
    from avalanche.benchmarks import CLScenario, DatasetExperience, EagerCLStream
    from avalanche.benchmarks.utils import DataAttribute, TaskAwareSupervisedClassificationDataset
    from avalanche.benchmarks.utils.flat_data import ConstantSequence


@dataclass(frozen=True)
class LabelledRows:
    """The samples of one part of a dataset, by experience."""

    rows: Sequence[Tensor]
    """Rows of each experience, (n,) each."""

    labels: Tensor
    """Position in the class order of every sample's class, by row."""

    read: Callable[[Tensor], Tensor]
    """Returns the samples at given rows (n,) as the network's input: (n, channels, height, width)."""

    def dataset(self, experience: int) -> ArrayDataset:
        """Return the samples of an experience."""
        return ArrayDataset(self, experience)

    def classes(self) -> list[list[int]]:
        """Return the classes of which each experience has samples, ascending."""
        return [self.labels[rows.to(self.labels.device)].unique().tolist() for rows in self.rows]


class ArrayDataset(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """One sample at a time, as Avalanche's data loaders read them."""

    def __init__(self, samples: LabelledRows, experience: int) -> None:
        self._rows, self._read = samples.rows[experience], samples.read
        self.targets: list[int] = samples.labels[self._rows.to(samples.labels.device)].tolist()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self._read(self._rows[position : position + 1])[0], self.targets[position]


class ClassExperience(DatasetExperience):  # type: ignore[misc]
    """One of Avalanche's experiences, with its classes. Its dataset is created only when it is used.

    Avalanche goes through every sample to create one, which takes as long as training for an epoch.
    """

    def __init__(self, samples: LabelledRows, index: int, classes: Sequence[Sequence[int]]) -> None:
        """Experience `index` of a stream whose experiences have samples of `classes`."""
        super().__init__(dataset=None)
        self._samples, self._index = samples, index
        self._made: Any = None
        before, so_far, ever = (set[int]().union(*classes[:end]) for end in (index, index + 1, len(classes)))
        self.task_label, self.task_labels = 0, [0]
        self.classes_in_this_experience = list(classes[index])
        self.previous_classes = sorted(before)
        self.classes_seen_so_far = sorted(so_far)
        self.future_classes = sorted(ever - so_far)

    @property
    def dataset(self) -> Any:
        """Avalanche's classification dataset of the experience's samples."""
        if self._made is None:
            samples = self._samples.dataset(self._index)
            labels = DataAttribute(samples.targets, "targets")
            tasks = DataAttribute(ConstantSequence(0, len(samples)), "targets_task_labels", use_in_getitem=True)
            self._made = TaskAwareSupervisedClassificationDataset([samples], data_attributes=[labels, tasks])
        return self._made


def class_incremental(sizes: Sequence[int], **streams: LabelledRows) -> CLScenario:
    """Return a benchmark whose experiences bring `sizes` new classes, with streams such as `train` and `test`.

    Labels are positions in the class order, so that experience 0 has the classes from 0 on. The classes of an
    experience are those of its samples, including old ones that return.
    """
    benchmark = CLScenario(
        [
            EagerCLStream(name, [ClassExperience(samples, index, classes) for index in range(len(sizes))])
            for name, samples, classes in ((name, samples, samples.classes()) for name, samples in streams.items())
        ]
    )
    for stream in benchmark.streams.values():
        for experience in stream:
            experience.benchmark = benchmark  # some of Avalanche's plug-ins still use it
    benchmark.n_experiences, benchmark.n_classes = len(sizes), sum(sizes)
    benchmark.n_classes_per_exp, benchmark.classes_order = list(sizes), list(range(sum(sizes)))
    return benchmark
