"""GDumb: fill a balanced memory greedily, and train from scratch on it alone. A baseline for every replay method.

    L = CE(softmax(o), y)        over the exemplars only, from new initial weights in every experience

Source: Prabhu, Torr & Dokania 2020 (ECCV), algorithm 1.
Variant: if several classes tie for the largest, the exemplar to replace is drawn from all of them. Training uses the
recipe's optimizer and epochs.
"""

from collections import Counter
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import clbench


@clbench.config
class Config:
    memory: Annotated[int, Ge(1)] = 200
    """Capacity of the exemplar memory; images."""


class GDumb(clbench.Strategy[Config]):
    @classmethod
    def needs_passes(cls, config: Config) -> bool:
        return True  # over its memory

    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)
        self.classes: set[int] = set()
        """Y, the classes with at least one sample so far."""

    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        """Fill the memory as if samples arrived one at a time in random order, and train on it."""
        y = torch.cat([labels for _, labels in experience.samples.batches(1000)])
        shuffled = torch.randperm(len(y))
        self.fill(experience.samples, shuffled, y[shuffled])
        return "memory"

    def fill(self, samples: clbench.Samples, positions: Tensor, y: Tensor) -> None:
        """Offer the samples at `positions` (n,), with labels `y` (n,), to the balanced memory in this order."""
        kept = [(label, -1 - place) for place, label in enumerate(self.exemplars.labels.tolist())]
        counts = Counter(label for label, _ in kept)
        for position, label in zip(positions.tolist(), y.tolist(), strict=True):
            if label in self.classes and counts[label] >= self.config.memory / len(self.classes):
                continue
            if len(kept) == self.config.memory:
                most = max(counts.values())
                of_largest = [place for place, (own, _) in enumerate(kept) if counts[own] == most]
                dropped, _ = kept.pop(of_largest[int(torch.randint(len(of_largest), (1,)))])
                counts[dropped] -= 1
            kept.append((label, position))
            counts[label] += 1
            self.classes.add(label)
        self.exemplars.select(torch.tensor([-1 - p for _, p in kept if p < 0], dtype=torch.int64))
        self.exemplars.keep(samples, torch.tensor([p for _, p in kept if p >= 0], dtype=torch.int64))

    def reinitialize(self, experience: clbench.Experience) -> bool:
        return True

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
