"""Random changes to the images of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from clbench.base.recipe import Augmentation
from clbench.system.devices import to_device


def augment(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop, flip and brighten each image of a batch by its own draw from `generator`, always a CPU generator.

    (n, height, width, channels) of uint8 -> the same shape, uint8, or float32 in 0..255 if brightness changes.
    """
    n, height, width, _ = images.shape
    device = images.device
    if how.crop or how.flip:
        rows = torch.arange(height, device=device).expand(n, height)
        columns = torch.arange(width, device=device).expand(n, width)
        if how.crop:
            images = torch.nn.functional.pad(images, (0, 0, how.crop, how.crop, how.crop, how.crop))
            offsets = to_device(torch.randint(2 * how.crop + 1, (2, n, 1), generator=generator), device)
            rows, columns = rows + offsets[0], columns + offsets[1]
        if how.flip:
            flipped = to_device(torch.rand(n, 1, generator=generator) < 0.5, device)
            columns = torch.where(flipped, columns.flip(1), columns)
        # One flat gather of whole pixels is several times faster than indexing by three index tensors.
        padded_height, padded_width = images.shape[1:3]
        image = torch.arange(n, device=device)[:, None, None]
        pixel = (image * padded_height + rows[:, :, None]) * padded_width + columns[:, None, :]
        flat = images.reshape(n * padded_height * padded_width, -1)
        images = flat.index_select(0, pixel.flatten()).view(n, height, width, -1)
    if how.brightness:
        factor = 1 + how.brightness * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
        images = (images * to_device(factor, device)).clamp_(0, 255)
    return images
