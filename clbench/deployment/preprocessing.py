"""Turns images of any size and kind into a network's input, as in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clbench.data.batches import Scaling
from clbench.data.image_files import fitted_pixels
from clbench.results.network_record import InputRecord


class Preprocessing(nn.Module):
    """Turns images, as a dataset stores them, into the network's input, with the same operations as in training."""

    def __init__(self, expected: InputRecord) -> None:
        super().__init__()
        self.padding = expected.padding
        self.scaling = Scaling(
            "standardized",
            expected.mean,
            expected.std,
            torch.device("cpu"),
            expected.height if expected.resizing else None,
            expected.channels if expected.channels != expected.image.channels else None,
        )

    def forward(self, images: Tensor) -> Tensor:
        """(n, height, width, channels) of uint8 -> float32 (n, channels, height, width) of the network."""
        if self.padding:
            images = F.pad(images, (0, 0, self.padding, self.padding, self.padding, self.padding))
        return self.scaling(images)


class Transform:
    """Turns a PIL image or a uint8 array into a network's input, exactly as in training."""

    def __init__(self, expected: InputRecord) -> None:
        self.expected = expected
        self._preprocessing = Preprocessing(expected)

    def __call__(self, image: PIL.Image.Image | npt.NDArray[np.uint8]) -> Tensor:
        """An image, or an array (height, width) or (height, width, channels) -> (channels, height, width) of float32.

        Raises ValueError for an array of another type or shape.
        """
        x: Tensor = self._preprocessing(torch.from_numpy(self.pixels(image)[None]))
        return x[0]

    def pixels(self, image: PIL.Image.Image | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the image with the size and channels of the training images: (height, width, channels) of uint8.

        See `fitted_pixels` for how images of another size or kind are converted.
        """
        shape = self.expected.image
        if not isinstance(image, PIL.Image.Image):
            if np.shape(image) == (shape.height, shape.width, shape.channels) and image.dtype == np.uint8:
                return np.array(image)  # a copy, since torch shares the memory of writable arrays only
            image = _as_image(image)
        return fitted_pixels(image, (shape.height, shape.width, shape.channels), shape.fit)


def _as_image(array: Any) -> PIL.Image.Image:
    array = np.asarray(array)
    if array.dtype != np.uint8:
        raise ValueError(f"an array must be uint8, with pixels from 0 to 255 (got {array.dtype})")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        raise ValueError(f"an array must be (height, width) or (height, width, 1 or 3) (got {array.shape})")
    return PIL.Image.fromarray(array)
