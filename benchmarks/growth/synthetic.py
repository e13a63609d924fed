"""Datasets of any size, made from a fixed seed: noise with a tint for each class, in a data folder of clbench."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clbench.data.cache import building, publish, silent
from clbench.data.npy_files import npy_file

NAME = "synthetic"
SEED = 0
CHUNK = 16_384

SCENARIO = '''"""Synthetic images in {experiences} experiences, learned by an MLP in one epoch each."""

import clbench


class Synthetic(clbench.Scenario):
    dataset = "{name}"
    split = "{experiences}"
    recipes = {{"quick": clbench.Recipe(network="mlp", optimizer="adam", lr=1e-3, batch_size=128, epochs=1)}}
'''


@dataclass(frozen=True)
class Synthetic:
    """A dataset and the number of experiences that it is split into."""

    train_size: int
    test_size: int
    classes: int
    experiences: int
    shape: tuple[int, int, int] = (28, 28, 1)

    @property
    def bytes(self) -> int:
        """Size of its images in bytes."""
        return (self.train_size + self.test_size) * int(np.prod(self.shape))


@contextmanager
def prepared(dataset: Synthetic, place: Path | None) -> Iterator[tuple[Path, Path]]:
    """Provide, within the context, a data folder with the dataset and the file of its scenario, both in `place`."""
    with tempfile.TemporaryDirectory(prefix="clbench-growth-", dir=place) as name:
        folder = Path(name)
        write(dataset, folder)
        scenario = folder / "synthetic.py"
        scenario.write_text(SCENARIO.format(name=NAME, experiences=dataset.experiences))
        yield folder, scenario


def write(dataset: Synthetic, folder: Path) -> None:
    """Make the dataset a few images at a time and publish it in the data folder.

    One class comes after the other, as when `clbench data import` has read a folder of images.
    """
    rng = np.random.default_rng(SEED)
    # Noise below 128 and a tint below 128 fit a byte together.
    tints = rng.integers(128, size=(dataset.classes, 1, 1, dataset.shape[2]), dtype=np.uint8)
    with building(NAME, folder, silent) as place:
        for part, size in (("train", dataset.train_size), ("test", dataset.test_size)):
            labels = np.arange(size) * dataset.classes // size
            with npy_file(place / f"y_{part}.npy", np.dtype(np.int64), labels.shape) as file:
                file.write(labels.data)
            with npy_file(place / f"x_{part}.npy", np.dtype(np.uint8), (size, *dataset.shape)) as file:
                for own in np.split(labels, range(CHUNK, size, CHUNK)):
                    noise = rng.integers(128, size=(len(own), *dataset.shape), dtype=np.uint8)
                    file.write((noise + tints[own]).data)
        publish(place, NAME, folder, tuple(map(str, range(dataset.classes))), "drawn from a seed")


def drop_from_cache(folder: Path) -> None:
    """Drop the arrays in a data folder from the system's cache, so that the next reader has to read from disk."""
    for path in folder.rglob("*.npy"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
