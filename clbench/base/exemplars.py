"""Exemplars: training images that a strategy keeps, copied out of the data and counted.

An image kept here is the original one, of uint8, and is augmented anew whenever it is drawn. What a strategy may keep
is what its config says in a field named `memory`; the audit counts (see audit/audit.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from clbench.base.strategy import Batch, Experience, Samples


@dataclass(frozen=True)
class Drawn:
    """Exemplars drawn from a memory, ready for the network."""

    x: Tensor
    """(n, channels, height, width), augmented and scaled as the recipe says."""

    y: Tensor
    """Class positions, (n,)."""

    values: Mapping[str, Tensor]
    """What was kept beside each exemplar, (n, …) each."""


class ExemplarMemory:
    """At most `capacity` images with their labels, and values that a strategy keeps beside each."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.offered = 0
        """Samples that `reservoir` has been offered so far."""

        self.images = torch.empty(0)
        """(m, height, width, channels) of uint8."""

        self.labels = torch.empty(0, dtype=torch.int64)
        """Class positions, (m,)."""

        self.values: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept."""
        return sum(kept.nbytes for kept in (self.images, self.labels, *self.values.values()))

    def reservoir(self, batch: Batch, **values: Tensor) -> None:
        """Offer a batch, so that after any number of batches every sample offered is kept with equal probability.

        `values` (n, …) are kept beside the samples. Source: Vitter 1985, algorithm R.
        """
        places = []
        for _ in range(len(batch.y)):
            place = self.offered if self.offered < self.capacity else int(torch.randint(self.offered + 1, (1,)))
            places.append(place if place < self.capacity else -1)
            self.offered += 1
        # Where one place is taken twice in a batch, the later sample has it.
        last = {place: position for position, place in enumerate(places) if place >= 0}
        if not last:
            return
        positions = torch.tensor(list(last.values()), device=batch.y.device)
        images = batch.images(positions)
        self._reserve(images, values)
        at = torch.tensor(list(last), device=images.device)
        self._extend(int(at.max()) + 1)
        self.images[at], self.labels[at] = images, batch.y[positions]
        for name, value in values.items():
            self.values[name][at] = value[positions].detach()

    def _reserve(self, images: Tensor, values: Mapping[str, Tensor]) -> None:
        if not len(self):
            self.images = images[:0].clone()
            self.labels = self.labels.to(images.device)
            self.values = {name: value[:0].detach().clone() for name, value in values.items()}

    def _extend(self, size: int) -> None:
        more = size - len(self)
        if more > 0:
            self.images, self.labels = _longer(self.images, more), _longer(self.labels, more)
            self.values = {name: _longer(value, more) for name, value in self.values.items()}

    def draw(self, count: int, batch: Batch) -> Drawn:
        """Draw `count` different exemplars, or all where there are fewer, augmented as the batch is."""
        chosen = torch.randperm(len(self))[:count].to(self.labels.device)
        x = batch.prepare(self.images[chosen])
        return Drawn(x, self.labels[chosen], {name: value[chosen] for name, value in self.values.items()})

    def keep(self, samples: Samples, chosen: Tensor) -> None:
        """Keep the samples at the positions `chosen` (n,) of an experience's data, after what is kept already."""
        images, labels = samples.take(chosen)
        if not len(self):
            self.images, self.labels = images, labels
            return
        self.images, self.labels = torch.cat([self.images, images]), torch.cat([self.labels, labels])

    def share_among_classes(self, experience: Experience) -> None:
        """Give each class seen an equal share: the first kept of old ones, of the experience's own drawn at random."""
        assert experience.samples is not None
        share = self.capacity // experience.seen_classes
        self.limit(share)
        y = torch.cat([labels for _, labels in experience.samples.batches(1000)])
        for label in y.unique():
            own = (y == label).nonzero().squeeze(1)
            self.keep(experience.samples, own[torch.randperm(len(own))[:share]])

    def select(self, kept: Tensor) -> None:
        """Keep the exemplars at these positions, in this order, and no others."""
        self.images, self.labels = self.images[kept], self.labels[kept]
        self.values = {name: value[kept] for name, value in self.values.items()}

    def limit(self, per_class: int) -> None:
        """Keep the first `per_class` exemplars of each class."""
        kept = torch.zeros(len(self), dtype=torch.bool)
        for label in self.labels.unique():
            kept[(self.labels == label).nonzero().squeeze(1)[:per_class]] = True
        self.select(kept.nonzero().squeeze(1))


def _longer(kept: Tensor, more: int) -> Tensor:
    return torch.cat([kept, kept.new_zeros((more, *kept.shape[1:]))])
