"""Reduce an experience's dataset, once the experience has ended, to the samples that an Avalanche strategy keeps.

Avalanche's buffers hold references into the dataset of an experience, and thereby keep all of it. Here that dataset
drops every sample that no buffer refers to, and has copies of the others. So what is saved, measured and audited is
what the strategy keeps, and what it did not keep cannot be read later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from clbench.avalanche.benchmark import ArrayDataset, LabelledRows
from clbench.avalanche.quiet_import import importing_avalanche

with importing_avalanche():
    from avalanche.benchmarks.utils import AvalancheDataset

Scale = Callable[[Tensor], Tensor]
"""Stored images (n, height, width, channels) of uint8 -> the network's input."""


@dataclass(frozen=True)
class OwnSamples(LabelledRows):
    """Samples that keep a list of the datasets made from them."""

    made: list[ExperienceSamples]

    def dataset(self, experience: int) -> ArrayDataset:
        """Return the samples of the experience in training."""
        self.made.append(ExperienceSamples(self, experience))
        return self.made[-1]


class ExperienceSamples(ArrayDataset):
    """The samples of one experience: all of them while it is trained, afterwards those that were kept."""

    def __init__(self, samples: LabelledRows, experience: int) -> None:
        super().__init__(samples, experience)
        self._noted: set[int] | None = None
        self._positions: Tensor | None = None
        """Positions of the samples that were kept, ascending, (k,); None while all are there."""
        self._images: Tensor | None = None
        """The stored images of these samples, (k, height, width, channels) of uint8."""
        self.scale: Scale | None = None
        """Set before training, once samples have been kept."""

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        position = int(position)
        if self._noted is not None:
            self._noted.add(position)
            return torch.zeros(1), self.targets[position]
        if self._positions is None:
            return super().__getitem__(position)
        assert self._images is not None and self.scale is not None
        place = int(torch.searchsorted(self._positions, position))
        if place == len(self._positions) or self._positions[place] != position:
            raise IndexError(f"sample {position} was not kept when its experience ended")
        return self.scale(self._images[place : place + 1])[0], self.targets[position]

    def note(self) -> None:
        """From here on record which samples are requested, and return none."""
        self._noted = set()

    def keep(self, stored: Callable[[Tensor], Tensor]) -> None:
        """Keep the samples that were recorded and drop all others; `stored` returns the images at rows (n,)."""
        assert self._noted is not None
        noted, self._noted = torch.tensor(sorted(self._noted), dtype=torch.int64), None
        if self._positions is None:
            self._images = stored(self._rows[noted]).cpu()
        else:
            assert self._images is not None
            self._images = self._images[torch.searchsorted(self._positions, noted)]
        self._positions, self._rows, self._read = noted, torch.empty(0, dtype=torch.int64), _gone

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "scale": None}

    @property
    def count(self) -> int:
        """Number of samples that were kept."""
        return 0 if self._positions is None else len(self._positions)


def _gone(rows: Tensor) -> Tensor:
    raise IndexError("the data of an experience are not available after it has ended")


def let_go(datasets: list[ExperienceSamples], state: Any, stored: Callable[[Tensor], Tensor]) -> None:
    """Have `datasets` keep only the samples that one of Avalanche's datasets within `state` refers to."""
    for own in datasets:
        own.note()
    for dataset in _datasets_in(state):
        for position in range(len(dataset)):
            dataset[position]
    for own in datasets:
        own.keep(stored)


def _datasets_in(state: Any) -> Iterator[AvalancheDataset]:
    """Yield Avalanche's datasets that can be reached from `state`, each once."""
    waiting, visited = [state], set()
    while waiting:
        value = waiting.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, AvalancheDataset):
            yield value
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple, set, frozenset)):
            waiting.extend(value)
        elif hasattr(value, "__dict__") and not isinstance(value, (Tensor, nn.Module, type, FunctionType, ModuleType)):
            waiting.extend(vars(value).values())
