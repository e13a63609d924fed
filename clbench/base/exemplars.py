"""Exemplars: training images that a strategy stores, copied from the data and counted.

Images are stored as in the dataset, in uint8, and augmented anew whenever they are drawn. A strategy may store at most
the number in its config's field `memory`; the audit counts them (see audit/audit.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.errors import UsageError

if TYPE_CHECKING:
    from clbench.base.batch import Batch
    from clbench.base.experience import Experience, Samples
    from clbench.networks.network import Network

Class = tuple[int, int]
"""A class of the stream: the index of its experience (in other settings than domain-incremental 0) and its output."""


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

    held = 0
    """Number of exemplars, from the first on, that `reservoir` never replaces; see `hold`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.offered = 0
        """Number of different images offered to `reservoir` or `balanced_reservoir` so far; for images that return see
        `reservoir`."""

        self._row_at: dict[int, int] = {}
        """The dataset's row of each image that was offered in a batch, by the image's place in the memory."""

        self._offers: Counter[int] = Counter()
        """How often each row of the current experience has been offered."""

        self._experience = -1

        self._encountered: Counter[Class] = Counter()
        """Number of different images of each class offered to `balanced_reservoir`."""

        self._full: set[Class] = set()
        """Classes that have had the most exemplars at some time since the memory was filled."""

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

        An image is stored at most once, however often it is offered. `values` (n, …) are stored with the images; if an
        image is offered several times in an experience, the values of each offer are equally likely to be stored. An
        image that returns in a later experience, and is not stored, counts as a new one. Exemplars that are held are
        never replaced. Source: Vitter 1985, algorithm R.
        """
        self._store(batch, self._places(batch, bool(values), self._anywhere), values)

    def balanced_reservoir(self, batch: Batch) -> None:
        """Offer a batch by class-balancing reservoir sampling: unequal classes are stored as equally as possible.

        Once a class has had the most exemplars, all its offered images are equally likely to be stored; an image of any
        other class replaces one of the largest class. Source: Chrysakis & Moens 2020 (ICML), algorithm 1.
        """
        kept = self._classes()
        labels = batch.y.tolist()

        def place(position: int, size: int) -> int:
            own = self._class(batch.experience, labels[position])
            self._encountered[own] += 1
            if size < self.capacity:
                kept.append(own)
                return size
            counts = Counter(kept)
            largest = {known for known, count in counts.items() if count == max(counts.values())}
            self._full |= largest
            if own in self._full and int(torch.randint(self._encountered[own], (1,))) >= counts[own]:
                return self.capacity  # that is, nowhere
            among = {own} if own in self._full else largest
            places = [at for at, known in enumerate(kept) if known in among]
            chosen = places[int(torch.randint(len(places), (1,)))]
            kept[chosen] = own
            return chosen

        self._store(batch, self._places(batch, False, place), self._origin(batch))

    def ring(self, batch: Batch) -> None:
        """Offer a batch to ring buffers, one for each class of the stream, which keep the last images of their class.

        All have the same size. Source: Chaudhry et al. 2019 (arXiv 1902.10486), algorithm 4.
        """
        room = self.capacity // sum(batch.experience.classes_per_experience)
        new = {row: position for position, row in enumerate(batch.index.tolist()) if row >= 0}
        if not new:
            return
        self.select(torch.tensor([at for at in range(len(self)) if self._row_at.get(at) not in new], dtype=torch.int64))
        last = {len(self) + n: position for n, position in enumerate(new.values())}
        self._row_at |= dict(zip(last, new, strict=True))
        self._store(batch, last, self._origin(batch))
        kept = self._classes()
        left = Counter(kept)
        places = []
        for place, own in enumerate(kept):
            if left[own] <= room:
                places.append(place)
            left[own] -= 1
        self.select(torch.tensor(places, dtype=torch.int64))

    def hold(self) -> None:
        """Protect the current exemplars: from now on the reservoir fills only the remaining room.

        For a few images that represent old data: the reservoir would treat them as all of it, and replace most.
        """
        self.held = self.offered = len(self)

    def _anywhere(self, position: int, size: int) -> int:
        if size < self.capacity:
            return size
        return self.held + int(torch.randint(self.offered - self.held + 1, (1,)))

    def _class(self, experience: Experience, label: int) -> Class:
        return experience.index if experience.setting == "domain_incremental" else 0, label

    def _classes(self) -> list[Class]:
        """Return the class of each exemplar."""
        origin = self.values.get("experience", torch.zeros_like(self.labels))
        return list(zip(origin.tolist(), self.labels.tolist(), strict=True))

    def _origin(self, batch: Batch) -> dict[str, Tensor]:
        """Return what must be stored with a batch's images to tell apart classes that share their outputs."""
        if batch.experience.setting != "domain_incremental":
            return {}
        return {"experience": torch.full_like(batch.y, batch.experience.index)}

    def _store(self, batch: Batch, last: Mapping[int, int], values: Mapping[str, Tensor]) -> None:
        """Store samples of a batch; `last` maps places in the memory to positions in the batch."""
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

    def _places(self, batch: Batch, with_values: bool, place_of_new: Callable[[int, int], int]) -> dict[int, int]:
        """Return the places that samples of the batch get, with their positions in the batch.

        `place_of_new` chooses the place of an image that is offered for the first time, given its position in the batch
        and the number of exemplars so far; at a place beyond the capacity it is not stored.
        """
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
            place = place_of_new(position, size)
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

        With `experience`, `limit` can tell its classes from others with the same outputs (domain-incremental setting).
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

    def share(self, experience: Experience, of: Literal["seen", "stream"] = "seen") -> int:
        """Return how many exemplars each class may have if all classes so far, or of the stream, have equally many."""
        classes = experience.classes_per_experience
        return self.capacity // sum(classes if of == "stream" else classes[: experience.index + 1])

    def share_among_classes(self, experience: Experience, of: Literal["seen", "stream"] = "seen") -> None:
        """Give each class an equal share: old classes keep their first exemplars, new ones are drawn at random.

        A class that returns gets new exemplars only to fill its share.
        """
        assert experience.samples is not None
        share = self.share(experience, of)
        self.limit(share)
        y = torch.cat([labels for _, labels in experience.samples.batches(1000)])
        for label in y.unique():
            own = (y == label).nonzero().squeeze(1)
            room = share - self._kept_of(int(label), experience)
            self.keep(experience.samples, own[torch.randperm(len(own))[:room]], experience)

    def share_by_herding(self, model: Network, experience: Experience, of: Literal["seen", "stream"] = "seen") -> None:
        """Give each class an equal share: old classes keep their first exemplars, new ones are chosen by herding.

        A class that returns gets new exemplars only to fill its share. Source: Rebuffi et al. 2017 (arXiv 1611.07725),
        algorithms 4 and 5, on features of unit length, without augmentation.
        """
        assert experience.samples is not None
        share = self.share(experience, of)
        self.limit(share)
        network = model.in_evaluation()
        with torch.no_grad():
            parts = [(unit_features(network, x), y) for x, y in experience.samples.batches(500)]
        phi, y = (torch.cat(part) for part in zip(*parts, strict=True))
        for label in y.unique():
            own = (y == label).nonzero().squeeze(1)
            room = share - self._kept_of(int(label), experience)
            self.keep(experience.samples, own[herd(phi[own], room)], experience)

    def _kept_of(self, label: int, experience: Experience) -> int:
        return self._classes().count(self._class(experience, label))

    def share_among_experiences(self, experience: Experience) -> None:
        """Give each experience an equal share: old ones keep their first exemplars, the new one's are drawn at random.

        `values["experience"]` has the experience of each exemplar.
        """
        assert experience.samples is not None
        share = self.capacity // (experience.index + 1)
        if share == 0:
            raise UsageError(
                f"a memory of {self.capacity} exemplars has none for each of the {experience.index + 1} experiences so"
                " far"
            )
        origin = self.values.get("experience", torch.zeros_like(self.labels))
        firsts = [(origin == index).nonzero().squeeze(1)[:share] for index in range(experience.index)]
        chosen = torch.randperm(len(experience.samples))[:share]
        images, labels = experience.samples.take(chosen)
        new = torch.full_like(labels, experience.index)
        if not firsts:
            self.images, self.labels, self.values = images, labels, {"experience": new}
            return
        self.select(torch.cat(firsts))
        self.images, self.labels = torch.cat([self.images, images]), torch.cat([self.labels, labels])
        self.values = {"experience": torch.cat([self.values["experience"], new])}

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


def unit_features(model: Network, x: Tensor) -> Tensor:
    """Return the trunk's features of x, (n, features), each row scaled to unit length."""
    return F.normalize(model.blocks(x).float(), dim=1)


def herd(phi: Tensor, count: int) -> Tensor:
    """Return positions of `count` rows of `phi` (n, features), such that the first m have about the mean of all."""
    mean, total, chosen = phi.mean(dim=0), torch.zeros_like(phi[0]), []
    left = torch.ones(len(phi), dtype=torch.bool, device=phi.device)
    for m in range(1, min(count, len(phi)) + 1):
        distance = (mean - (total + phi) / m).norm(dim=1).masked_fill(~left, torch.inf)
        best = int(distance.argmin())
        chosen.append(best)
        left[best] = False
        total = total + phi[best]
    return torch.tensor(chosen, dtype=torch.int64, device=phi.device)


def _longer(kept: Tensor, more: int) -> Tensor:
    return torch.cat([kept, kept.new_zeros((more, *kept.shape[1:]))])
