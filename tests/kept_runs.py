"""Runs that keep their networks, small enough for a test: made once, and only read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import clbench
from clbench.results import stored_runs
from clbench.results.stored_run import StoredRun

STRANGER = '''
"""A stranger's network, with a head of its own and other images than the dataset's."""

import torch
from torch import nn

import clbench


@clbench.network(size=12, channels=3, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))
class Stranger(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(16 * 6 * 6, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x).flatten(1))
'''


def run(strategy: Any, out: Path, data: Path, **given: Any) -> StoredRun:
    """A run on the digits with one epoch per experience."""
    asked = {"epochs": 1, "threads": 1, "device": "cpu", **given}
    return clbench.run(strategy, "splitdigits", out=out, data=data, **asked)[0]


def every_network(folder: Path, data: Path) -> None:
    """Make, in `folder`, a run of lwf that keeps the network of each of its five experiences."""
    run("lwf", folder / "results", data, epochs=3, keep_networks="all")


def strangers(folder: Path, data: Path) -> None:
    """Make, in `folder`, a run with the network of networks/stranger.py."""
    (folder / "networks").mkdir()
    file = folder / "networks" / "stranger.py"
    file.write_text(STRANGER)
    run("naive", folder / "results", data, epochs=3, network=str(file), set={"recipe.padding": 1}, keep_networks="last")


def stored(folder: Path) -> StoredRun:
    """The run that was made in `folder`."""
    (path,) = (folder / "results").glob("splitdigits/*/*")
    read = stored_runs.read(path)
    assert isinstance(read, StoredRun)
    return read


def predicted(kept: StoredRun, experience: int) -> npt.NDArray[Any]:
    """The classes that a run predicted after an experience; -1 for samples of classes that had not come."""
    predictions: npt.NDArray[Any] = np.load(kept.path / "predictions.npz")[kept.setting][experience]
    return predictions
