"""clbench's streams are the same as Avalanche's own benchmarks, sample by sample, if both have the same class order.

Needs the published files: MNIST's and Fashion-MNIST's as torchvision stores them in the data folder, and CIFAR-10's and
CIFAR-100's prepared there. Labels are compared in full. Pixels are compared for every test sample of MNIST and for
samples spread over each experience otherwise, since Avalanche reads them one by one.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clbench.data.datasets import Dataset, data_folder, describe, open_dataset
from clbench.streams.stream import Stream, open_stream

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("avalanche")]

SPREAD = 150
"""Samples of an experience whose pixels are compared."""


@dataclass(frozen=True)
class Published:
    """One of Avalanche's benchmarks, and the clbench dataset that it divides."""

    benchmark: str
    dataset: str
    experiences: int
    raw: str = ""
    """Folder of the published files in the data folder; for CIFAR they are written from our arrays."""


BENCHMARKS = [
    Published("SplitMNIST", "mnist", 5, "MNIST/raw"),
    Published("SplitFMNIST", "fashion", 5, "FashionMNIST/raw"),
    Published("SplitCIFAR10", "cifar10", 5),
    Published("SplitCIFAR100", "cifar100", 10),
]


def our_stream(name: str, experiences: int, order: tuple[int, ...]) -> Stream:
    folder = data_folder()
    info = describe(name, folder)
    if info is None:
        pytest.skip(f"dataset {name} is not prepared in {folder}: clbench data fetch {name}")
    sizes = (len(info.classes) // experiences,) * experiences
    return open_stream(name, info.sha256, folder, sizes, order, "class_incremental", 0, "unit", "float32", "cpu")


def write_cifar(data: Dataset, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write arrays as torchvision expects CIFAR's files, and have it accept them without their published hashes."""
    from torchvision.datasets import CIFAR10, CIFAR100

    cls = CIFAR10 if data.info.name == "cifar10" else CIFAR100
    key = "labels" if cls is CIFAR10 else "fine_labels"
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    parts = [(cls.train_list, data.x_train, data.y_train), (cls.test_list, data.x_test, data.y_test)]
    for files, images, labels in parts:
        rows = np.array_split(np.arange(len(labels)), len(files))
        for (name, _), own in zip(files, rows, strict=True):
            flat = images[own].transpose(0, 3, 1, 2).reshape(len(own), -1)
            (folder / name).write_bytes(pickle.dumps({"data": flat, key: labels[own].tolist()}))
    names = {"label_names" if cls is CIFAR10 else "fine_label_names": list(data.info.classes)}
    (folder / cls.meta["filename"]).write_bytes(pickle.dumps(names))
    for module in ("torchvision.datasets.cifar", "torchvision.datasets.utils"):
        monkeypatch.setattr(f"{module}.check_integrity", lambda path, md5=None: Path(path).is_file())


def avalanches_own(wanted: Published, order: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from avalanche.benchmarks import classic
    from torchvision.transforms import ToTensor

    # Avalanche's MNIST gives tensors in 0..1, its other datasets images.
    transform = None if wanted.benchmark == "SplitMNIST" else ToTensor()
    root = data_folder()
    if not wanted.raw:
        root = tmp_path
        write_cifar(open_dataset(wanted.dataset, data_folder()), root, monkeypatch)
    elif not list((root / wanted.raw).glob("train-images*")):
        pytest.skip(f"the published files are not in {root / wanted.raw}")
    make: Callable[..., Any] = getattr(classic, wanted.benchmark)
    return make(
        n_experiences=wanted.experiences,
        fixed_class_order=list(order),
        train_transform=transform,
        eval_transform=transform,
        dataset_root=root,
    )


def class_by_class(labels: Tensor, classes: Iterable[int]) -> Tensor:
    """Positions of our samples in Avalanche's order: class by class, in the dataset's order."""
    return torch.cat([torch.nonzero(labels == own).flatten() for own in classes])


def stored(x: Tensor) -> Tensor:
    """The stored pixels of an image in 0..1."""
    return (x * 255).round().to(torch.uint8)


def samples(dataset: Any, positions: Tensor) -> Iterator[tuple[Tensor, int, int]]:
    for position in positions.tolist():
        x, y, task = dataset[position]
        yield x, int(y), int(task)


@pytest.mark.parametrize("wanted", BENCHMARKS, ids=lambda wanted: wanted.benchmark)
def test_a_stream_as_an_avalanche_benchmark_is_avalanches_own(
    wanted: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = 100 if wanted.dataset == "cifar100" else 10
    order = tuple(np.random.default_rng(5).permutation(classes).tolist())
    ours = our_stream(wanted.dataset, wanted.experiences, order).as_avalanche()
    theirs = avalanches_own(wanted, order, tmp_path, monkeypatch)
    class_of = torch.tensor(order)

    assert [stream.name for stream in ours.streams.values()] == [stream.name for stream in theirs.streams.values()]
    assert (ours.n_experiences, ours.n_classes) == (theirs.n_experiences, theirs.n_classes)
    for part in ("train", "test"):
        pairs = list(zip(ours.streams[part], theirs.streams[part], strict=True))
        assert len(pairs) == wanted.experiences
        for own, their in pairs:
            for name in ("classes_in_this_experience", "previous_classes", "future_classes", "classes_seen_so_far"):
                assert set(class_of[list(getattr(own, name))].tolist()) == set(getattr(their, name) or ()), name
            assert (own.current_experience, own.task_labels) == (their.current_experience, their.task_labels)
            labels = torch.as_tensor(list(own.dataset.targets))
            their_labels = [int(label) for label in their.dataset.targets]
            aligned = class_by_class(class_of[labels], dict.fromkeys(their_labels))
            assert class_of[labels][aligned].tolist() == their_labels
            assert set(own.dataset.targets_task_labels) == set(their.dataset.targets_task_labels) == {0}

            every = wanted.benchmark == "SplitMNIST" and part == "test"
            places = torch.linspace(0, len(labels) - 1, len(labels) if every else SPREAD).long()
            read = zip(samples(own.dataset, aligned[places]), samples(their.dataset, places), strict=True)
            for (x, y, task), (their_x, their_y, their_task) in read:
                # Between scaling by a factor and by a division, the last bit of a float may differ.
                assert torch.equal(stored(x), stored(their_x))
                assert (x - their_x).abs().max() < 1e-7
                assert (order[y], task) == (their_y, their_task)
