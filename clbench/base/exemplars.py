"""Exemplars: training images that a strategy stores, copied from the data and counted.

Images are stored as the dataset has them, in uint8, and augmented anew whenever they are drawn. A strategy may store as
many as its config's field `memory` says; the audit counts them (see audit/audit.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from clbench.base.batch import Batch
    from clbench.base.experience import Experience, Samples


@dataclass(frozen=True)
class Drawn:
    """Exemplars drawn from a memory, ready for the network."""

    x: Tensor
    """(n, channels, height, width), augmented and scaled as the recipe says."""

    y: Tensor
    """Class positions, (n,)."""

    values: Mapping[str, Tensor]
    """Further values that were stored with each exemplar, (n, …) each."""


class ExemplarMemory:
    """At most `capacity` images with their labels, and further values that a strategy stores with each."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.offered = 0
        """Number of different images offered to `reservoir` so far."""

        self._row_at: dict[int, int] = {}
        """By its place, the dataset's row of each image that `reservoir` stored."""

        self._offers: Counter[int] = Counter()
        """How often each row of the current experience has been offered."""

        self._experience = -1

        self.images = torch.empty(0)
        """(m, height, width, channels) of uint8."""

        self.labels = torch.empty(0, dtype=torch.int64)
        """Class positions, (m,)."""

        self.values: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is stored."""
        return sum(kept.nbytes for kept in (self.images, self.labels, *self.values.values()))

    def reservoir(self, batch: Batch, **values: Tensor) -> None:
        """Offer a batch by reservoir sampling: at any time all images offered so far are equally likely to be stored.

        An image is stored once at most, however often it is offered. `values` (n, …) are stored with the images; those
        of each offer of an image within an experience are equally likely. Source: Vitter 1985, algorithm R.
        """
        last = self._places(batch, bool(values))
        if not last:
            return
        positions = torch.tensor(list(last.values()), device=batch.y.device)
        images = batch.images(positions)
        self._reserve(images, values)
        at = torch.tensor(list(last), device=images.device)
        self._extend(max(last) + 1)
        self.images[at], self.labels[at] = images, batch.y[positions]
        for name, value in values.items():
            self.values[name][at] = value[positions].detach()

    def _places(self, batch: Batch, with_values: bool) -> dict[int, int]:
        """Return the places that samples of the batch get, with their positions in the batch."""
        if batch.experience.index != self._experience:
            self._offers, self._experience = Counter(), batch.experience.index
        place_of = {row: place for place, row in self._row_at.items()}
        size, last = len(self), dict[int, int]()
        for position, row in enumerate(batch.index.tolist()):
            if row < 0:  # an exemplar itself
                continue
            self._offers[row] += 1
            times = self._offers[row]
            if times > 1 or row in place_of:
                if with_values and row in place_of and int(torch.randint(times, (1,))) == 0:
                    last[place_of[row]] = position
                continue
            place = size if size < self.capacity else int(torch.randint(self.offered + 1, (1,)))
            self.offered += 1
            if place < self.capacity:
                size = max(size, place + 1)
                place_of.pop(self._row_at.get(place, -1), None)
                place_of[row], self._row_at[place], last[place] = place, row, position
        return last

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
        """Draw `count` different exemplars, or all if there are fewer, augmented as the batch is."""
        chosen = torch.randperm(len(self))[:count].to(self.labels.device)
        x = batch.prepare(self.images[chosen])
        return Drawn(x, self.labels[chosen], {name: value[chosen] for name, value in self.values.items()})

    def keep(self, samples: Samples, chosen: Tensor, experience: Experience | None = None) -> None:
        """Append the samples at the positions `chosen` (n,) of an experience's data to the memory.

        With `experience`, `limit` tells its classes from those of others that share their outputs domain-incrementally.
        """
        images, labels = samples.take(chosen)
        values = {}
        if experience is not None and experience.setting == "domain_incremental":
            values = {"experience": torch.full_like(labels, experience.index)}
        if not len(self):
            self.images, self.labels, self.values = images, labels, values
            return
        self.images, self.labels = torch.cat([self.images, images]), torch.cat([self.labels, labels])
        self.values |= {name: torch.cat([self.values[name], value]) for name, value in values.items()}

    def share(self, experience: Experience) -> int:
        """Return how many exemplars each class of the experiences so far may have, if all have equally many."""
        return self.capacity // sum(experience.classes_per_experience[: experience.index + 1])

    def share_among_classes(self, experience: Experience) -> None:
        """Give each class seen an equal share: old classes keep their first exemplars, new ones are drawn at random."""
        assert experience.samples is not None
        share = self.share(experience)
        self.limit(share)
        y = torch.cat([labels for _, labels in experience.samples.batches(1000)])
        for label in y.unique():
            own = (y == label).nonzero().squeeze(1)
            self.keep(experience.samples, own[torch.randperm(len(own))[:share]], experience)

    def select(self, kept: Tensor) -> None:
        """Keep the exemplars at these positions, in this order, and no others."""
        self.images, self.labels = self.images[kept], self.labels[kept]
        self.values = {name: value[kept] for name, value in self.values.items()}
        moved = enumerate(kept.tolist())
        self._row_at = {place: self._row_at[old] for place, old in moved if old in self._row_at}

    def limit(self, per_class: int) -> None:
        """Keep the first `per_class` exemplars of each class."""
        kept = torch.zeros_like(self.labels, dtype=torch.bool)
        origin = self.values.get("experience", torch.zeros_like(self.labels))
        _, classes = torch.stack([origin, self.labels]).unique(dim=1, return_inverse=True)
        for own in classes.unique():
            kept[(classes == own).nonzero().squeeze(1)[:per_class]] = True
        self.select(kept.nonzero().squeeze(1))


def _longer(kept: Tensor, more: int) -> Tensor:
    return torch.cat([kept, kept.new_zeros((more, *kept.shape[1:]))])
