"""GDumb: fill a balanced memory greedily, and train from scratch on it alone. A baseline for every replay method.

    L = CE(softmax(o), y)        over the exemplars only, from new initial weights in every experience

Source: Prabhu, Torr & Dokania 2020 (ECCV), algorithm 1.
Variant: a sample replaces a random exemplar of the largest class. Trained with the recipe's optimizer and epochs.
"""

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
    def start(self, model: clbench.Network) -> None:
        self.exemplars = clbench.ExemplarMemory(self.config.memory)

    def training_data(self, experience: clbench.Experience) -> clbench.TrainingData:
        """Fill the memory as if samples arrived one at a time in random order, and train on it."""
        y = torch.cat([labels for _, labels in experience.samples.batches(1000)])
        shuffled = torch.randperm(len(y))
        self.fill(experience.samples, shuffled, y[shuffled])
        return "memory"

    def fill(self, samples: clbench.Samples, positions: Tensor, y: Tensor) -> None:
        """Offer the samples at `positions` (n,), with labels `y` (n,), to the balanced memory in this order."""
        kept = [(int(label), -1 - place) for place, label in enumerate(self.exemplars.labels.tolist())]
        counts = torch.bincount(self.exemplars.labels, minlength=int(y.max()) + 1).tolist()
        for position, label in zip(positions.tolist(), y.tolist(), strict=True):
            full = len(kept) >= self.config.memory
            if full and counts[label] >= self.config.memory // sum(c > 0 or i == label for i, c in enumerate(counts)):
                continue
            if full:
                largest = counts.index(max(counts))
                of_largest = [i for i, (own, _) in enumerate(kept) if own == largest]
                kept.pop(of_largest[int(torch.randint(len(of_largest), (1,)))])
                counts[largest] -= 1
            kept.append((label, position))
            counts[label] += 1
        self.exemplars.select(torch.tensor([-1 - p for _, p in kept if p < 0], dtype=torch.int64))
        self.exemplars.keep(samples, torch.tensor([p for _, p in kept if p >= 0], dtype=torch.int64))

    def reinitialize(self, experience: clbench.Experience) -> bool:
        return True

    def loss(self, batch: clbench.Batch) -> Tensor:
        return batch.cross_entropy()
