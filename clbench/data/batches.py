"""Images as whole batches: chosen by index from uint8 arrays, and augmented and scaled a batch at a time.

Images are stored (n, height, width, channels). A batch leaves here as float32 (n, channels, height, width) in
channels-last memory format, a view of the same memory, so nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from clbench.base.own_loop import Inputs
from clbench.base.recipe import Augmentation
from clbench.data.augmentation import augment
from clbench.data.read_ahead import ReadAhead
from clbench.system.devices import to_device
from clbench.system.seeds import derive

# Evaluation, teacher outputs and feature extraction keep no gradients, so their batches may be larger than in training.
# With this many pixel values a convolution's output takes tens of megabytes; on a GPU, which small batches leave idle,
# hundreds.
_INFERENCE_VALUES = {"cpu": 2**20, "cuda": 2**23}


class Images:
    """A dataset's images: in the device's memory if they fit there, otherwise memory-mapped from the disk."""

    def __init__(
        self,
        images: npt.NDArray[Any],
        device: torch.device,
        read_ahead: ReadAhead | None = None,
        input_values: int | None = None,
    ) -> None:
        """`images` (n, height, width, channels) of uint8, or features (n, f) of float32 instead; `read_ahead` if memory
        cannot hold them all; `input_values` is the size of the network's input, if it is not an image's own."""
        self.pixels = torch.from_numpy(images)
        self.device = device
        self._read_ahead = read_ahead
        self._input_values = input_values or self.pixels[0].numel()
        self.on_read: Callable[[Tensor], None] | None = None
        """Called with the rows of every read."""

        if device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
            self.pixels = self.pixels.to(device)
            self._read_ahead = None

    @property
    def inference_batch(self) -> int:
        """How many images are passed through a network at once when no gradients are kept."""
        return max(1, _INFERENCE_VALUES[self.device.type] // self._input_values)

    def read(self, rows: Tensor) -> Tensor:
        """Return the images at `rows` (n,), on the device, (n, height, width, channels) of uint8."""
        if self.on_read is not None:
            self.on_read(rows)
        return to_device(self.pixels.index_select(0, rows.to(self.pixels.device)), self.device)

    def read_batches(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of one batch of rows after another; the next is read from the disk in the meantime."""
        for index, rows in enumerate(batches):
            if self._read_ahead is not None:
                for upcoming in batches[index + 1 : index + 2] if index else batches[:2]:
                    self._read_ahead(upcoming.numpy())
            yield self.read(rows)


class MappedImages(Images):
    """Images of several domains, each a rearrangement of the pixels of the same images.

    With n images, row d·n + i is image i in domain d.
    """

    def __init__(
        self, images: npt.NDArray[Any], device: torch.device, maps: Tensor, input_values: int | None = None
    ) -> None:
        """`maps` (domains, height·width) gives the source of each pixel of a domain, -1 for black; `input_values` as in
        Images."""
        super().__init__(images, device, input_values=input_values)
        self.maps = maps.to(device)
        self._black = self.maps < 0

    def __len__(self) -> int:
        return len(self.maps) * len(self.pixels)

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        return self.read(torch.arange(*rows.indices(len(self)))).cpu().numpy()

    def read(self, rows: Tensor) -> Tensor:
        """Return the images at `rows` (n,), on the device, (n, height, width, channels) of uint8."""
        if self.on_read is not None:
            self.on_read(rows)
        count = len(self.pixels)
        stored = self.pixels.index_select(0, (rows % count).to(self.pixels.device))
        images = to_device(stored, self.device)
        domain = (rows // count).to(self.device)
        pixels = images.flatten(1, 2)  # (n, height·width, channels)
        first = int(domain[0]) if len(domain) else 0
        if bool((domain == first).all()):  # as in training, where a batch is of one domain
            mapped = pixels[:, self.maps[first].clamp(min=0)]
            mapped[:, self._black[first]] = 0
        else:
            source = self.maps[domain].clamp(min=0)[:, :, None].expand_as(pixels)
            mapped = pixels.gather(1, source).masked_fill_(self._black[domain][:, :, None], 0)
        return mapped.view_as(images)


class Scaling:
    """Turns uint8 pixels into the network's input: repeats grey images, normalizes, and resizes, in this order."""

    def __init__(
        self,
        normalization: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        size: int | None = None,
        channels: int | None = None,
    ) -> None:
        """`normalization` as in Recipe; `mean` and `std` per channel, of pixels in 0..1; `size` in pixels and
        `channels` that the network needs, if they are not the images'."""
        m, s = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        if normalization == "unit":
            m, s = torch.zeros_like(m), torch.ones_like(s)
        s[s == 0] = 1  # a constant channel
        self.mean, self.std = tuple(m.tolist()), tuple(s.tolist())
        """What is subtracted from pixels in 0..1, and what they are then divided by, per channel."""
        self.factor = (1 / (255 * s)).float().to(device)
        self.offset = (-m / s).float().to(device)
        self.size, self.channels = size, channels

    def __call__(self, images: Tensor) -> Tensor:
        """(n, height, width, channels), 0..255 -> float32 (n, channels, height, width)."""
        if self.channels is not None:
            images = images.expand(-1, -1, -1, self.channels)
        # Images that are float32 already belong to the caller.
        own = images.dtype != torch.float32
        scaled = images.to(torch.float32).mul_(self.factor) if own else images * self.factor
        x = scaled.add_(self.offset).permute(0, 3, 1, 2)
        if self.size is None or x.shape[2:] == (self.size, self.size):
            return x
        # Antialiased, as PIL resizes and as pretrained networks were trained; it matters when images get smaller.
        return F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)


class Unscaled(Scaling):
    """Leaves features of a frozen trunk, which are used instead of images, unchanged."""

    def __init__(self, device: torch.device) -> None:
        super().__init__("unit", (0.0,), (1.0,), device)

    def __call__(self, images: Tensor) -> Tensor:
        """(n, features) -> (n, features)."""
        return images


def held_out(rows: Tensor, labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split `rows` (n,) into training rows and a held-out `share` of each class, drawn from `generator`.

    `labels` (n,) are their classes. Both parts keep the order of `rows`. A class of more than one sample has at least
    one in each part, unless `share` is 0.
    """
    held = torch.zeros(len(rows), dtype=torch.bool)
    if share:
        for label in labels.unique():
            own = (labels == label).nonzero().squeeze(1)
            count = min(max(1, round(share * len(own))), len(own) - 1)
            held[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return rows[~held], rows[held]


@dataclass
class TrainingSet:
    """The samples that one experience trains on."""

    images: Images
    scaling: Scaling
    rows: Tensor
    """Rows of the dataset's training arrays, (n,)."""

    labels: Tensor
    """Class positions, (n,), in the order of `rows`."""

    teacher_outputs: Tensor | None = None
    """A value per sample, (n, …), in the order of `rows`."""

    identity: Tensor | None = None
    """Each sample's row in the dataset, (n,), if `images` are not the dataset's own; -1 for a stored exemplar."""

    features: Tensor | None = None
    """The frozen trunk's output per sample, (n, features), in the order of `rows`; served instead of images."""

    seed: int = 0
    """Seed of `shuffled`."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    """The recipe's, for `shuffled`."""

    def __len__(self) -> int:
        return len(self.rows)

    def map_images(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return `function` of all images without augmentation, batch by batch, in the order of `rows`."""
        with torch.no_grad():
            parts = self.images.read_batches(self.rows.split(self.images.inference_batch))
            return torch.cat([function(self.scaling(images)) for images in parts])

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield x and labels of every sample, without augmentation; see base.experience.Samples."""
        order = torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)
        labels = self.labels[order.to(self.labels.device)].split(size)
        for images, label in zip(self.images.read_batches(self.rows[order].split(size)), labels, strict=True):
            yield self.scaling(images), label

    def shuffled(self, size: int, augmented: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield x and labels of every sample in an order drawn from `seed`; see base.experience.Samples."""
        drawing, augmenting = (
            torch.Generator().manual_seed(derive(self.seed, purpose)) for purpose in ("order", "augmentation")
        )
        order = torch.randperm(len(self), generator=drawing)
        rows = self.rows[order].to(self.images.pixels.device).split(size)
        labels = self.labels[order.to(self.labels.device)].split(size)
        augmentation = self.augmentation if augmented else Augmentation()
        yield from zip(self._augmented(rows, augmentation, augmenting), labels, strict=True)

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return stored images and labels of some samples; see base.experience.Samples."""
        rows = self.rows[positions.to(self.rows.device)]
        return self.images.read(rows), self.labels[positions.to(self.labels.device)]

    def scaled(self, images: Tensor) -> Tensor:
        """Scale stored images without augmenting them; see base.experience.Samples."""
        return self.scaling(images)

    def in_order(self, size: int) -> Iterator[Inputs]:
        """Yield every sample as `epoch` does, without augmentation, in the order of `rows`."""
        # Copies, as in `epoch`, because a strategy may change them in place.
        rows, labels = self.rows.clone().split(size), self.labels.clone().split(size)
        teacher_outputs = (
            [None] * len(rows) if self.teacher_outputs is None else self.teacher_outputs.clone().split(size)
        )
        images = self.images.read_batches(rows)
        for pixels, label, row, output in zip(images, labels, rows, teacher_outputs, strict=True):
            yield self.scaling(pixels), label, row, output

    def epoch(
        self, batch_size: int, order: torch.Generator, augmentation: Augmentation, augmenting: torch.Generator
    ) -> Iterator[Inputs]:
        """Yield every sample once, in an order drawn from `order`: x, labels, rows of the dataset, teacher_outputs.

        `augmenting` draws the augmentation. The last batch may be smaller.
        """
        shuffled = torch.randperm(len(self.rows), generator=order)
        rows = self.rows[shuffled].to(self.images.pixels.device).split(batch_size)
        shuffled = shuffled.to(self.images.device)
        # Small arrays are shuffled once per epoch; only images are gathered batch by batch.
        labels = self.labels[shuffled].split(batch_size)
        teacher_outputs = (
            [None] * len(rows) if self.teacher_outputs is None else self.teacher_outputs[shuffled].split(batch_size)
        )
        identity = self.rows if self.identity is None else self.identity
        dataset_rows = identity[shuffled.to(identity.device)].to(self.images.device).split(batch_size)
        if self.features is None:
            inputs = self._augmented(rows, augmentation, augmenting)
        else:
            inputs = map(partial(self.features.index_select, 0), shuffled.split(batch_size))
        yield from zip(inputs, labels, dataset_rows, teacher_outputs, strict=True)

    def _augmented(
        self, rows: Sequence[Tensor], augmentation: Augmentation, augmenting: torch.Generator
    ) -> Iterator[Tensor]:
        for images in self.images.read_batches(rows):
            yield self.scaling(augment(images, augmentation, augmenting) if augmentation.active else images)
