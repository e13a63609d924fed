"""Classifies image files of any size with a trained network: reads them one at a time, predicts in batches."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from clbench.data.image_files import SUFFIXES, UNREADABLE, bombs_refused, opened, reason
from clbench.deployment.trained_network import TrainedNetwork
from clbench.errors import UsageError
from clbench.system.files import found_at

_VALUES = 2**20
"""Pixel values per batch; a convolution's output then takes tens of megabytes."""


class Likely(NamedTuple):
    """A class that an image may show, with its probability."""

    name: str
    probability: float
    """The softmax of the scores."""

    score: float


@dataclass(frozen=True)
class Answer:
    """The network's prediction for an image, or why the image cannot be read."""

    image: Path
    classes: tuple[Likely, ...] = ()
    """The most likely classes, in descending order."""

    problem: str | None = None

    def is_none(self, below: float | None) -> bool:
        """Return whether the image is taken to show none of the classes: its highest score is below this one."""
        return below is not None and self.classes[0].score < below


def image_files(given: Iterable[str]) -> list[Path]:
    """Return the image files for the given names: files, folders with their content, and patterns like `photos/*.jpg`.

    Raises UsageError for a name or pattern without any.
    """
    files = [file for name in given for file in _files(name)]
    return list(dict.fromkeys(files))


def _files(name: str) -> list[Path]:
    path = Path(name)
    kind = found_at(path)
    if kind == "folder":
        found = _in_folder(path)
        if not found:
            raise UsageError(f"there are no images in {path} ({', '.join(sorted(SUFFIXES))})")
        return found
    if kind is not None:
        return [path]
    if glob.has_magic(name):
        matches = sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207 - also for absolute patterns
        if matches:
            return [file for match in matches for file in (_in_folder(match) if match.is_dir() else [match])]
        raise UsageError(f"no file matches {name}")
    raise UsageError(f"there is no image or folder {path}")


def _in_folder(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, by path, without hidden ones."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        paths = [Path(root, file) for file in sorted(files) if not file.startswith(".")]
        found += [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]
    return found


def predict(network: TrainedNetwork, files: Sequence[Path], top: int) -> Iterator[Answer]:
    """Yield the prediction for each image, its `top` classes, in the order of `files`.

    Raises UsageError for a network whose scores cannot be compared across all classes.
    """
    record = network.record
    if record.setting == "task_incremental" and len(record.experiences) > 1:
        raise UsageError(
            "the network was trained task-incrementally: its scores can be compared only among the classes of one "
            f"experience ({', '.join(map(str, record.experiences))} classes), and that of an image is not known",
            "clbench.load_network gives all scores, and so does an exported file.",
        )
    expected = record.input
    size = max(1, _VALUES // (expected.channels * expected.height * expected.width))
    for start in range(0, len(files), size):
        yield from _batch(network, files[start : start + size], top)


@torch.inference_mode()
def _batch(network: TrainedNetwork, files: Sequence[Path], top: int) -> list[Answer]:
    inputs, broken = {}, {}
    for file in files:
        try:
            inputs[file] = _read(network, file)
        except UNREADABLE as error:
            broken[file] = Answer(file, problem=reason(error, file))
    answers = {}
    if inputs:
        scores = network(torch.stack(list(inputs.values()))).float()
        highest, order = scores.topk(min(top, len(network.classes)), dim=1)
        probabilities = scores.softmax(dim=1).gather(1, order)
        for file, *own in zip(inputs, order.tolist(), probabilities.tolist(), highest.tolist(), strict=True):
            likely = (Likely(network.classes[which], *rest) for which, *rest in zip(*own, strict=True))
            answers[file] = Answer(file, tuple(likely))
    return [answers.get(file) or broken[file] for file in files]


def _read(network: TrainedNetwork, file: Path) -> Tensor:
    with bombs_refused(), opened(file) as image:
        return network.transform(image)
