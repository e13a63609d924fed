"""The images of an Avalanche benchmark, numbered by the order in which it brings their classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

Image = npt.NDArray[np.uint8]
"""(height, width, channels), with 1 or 3 channels."""


@dataclass(frozen=True)
class BenchmarkImages:
    """What a class-incremental benchmark holds."""

    train: Part
    test: Part
    class_ids: tuple[int, ...]
    """The benchmark's own id of each class, experience by experience and ascending within one."""

    classes_per_experience: tuple[int, ...]


class Part:
    """The training or the test images, experience by experience."""

    def __init__(self, experiences: Sequence[Any], class_ids: Sequence[int]) -> None:
        self._datasets = [experience.dataset for experience in experiences]
        positions = {class_id: position for position, class_id in enumerate(class_ids)}
        targets = [int(target) for dataset in self._datasets for target in dataset.targets]
        self.labels = np.array([positions[target] for target in targets], dtype=np.int64)
        """Position of each image's class in the benchmark's order, (n,)."""

    def images(self) -> Iterator[Image]:
        """Yield the images. Raises ValueError for one that is not 8-bit."""
        for dataset in self._datasets:
            for index in range(len(dataset)):
                yield _pixels(dataset[index][0])


def read(benchmark: Any) -> BenchmarkImages:
    """Return what the benchmark holds. Raises ValueError if it is not class-incremental."""
    try:
        train, test = list(benchmark.train_stream), list(benchmark.test_stream)
    except AttributeError as error:
        raise ValueError(f"{type(benchmark).__name__} has no train_stream and test_stream") from error
    brought = [sorted({int(target) for target in experience.dataset.targets}) for experience in train]
    class_ids = [class_id for classes in brought for class_id in classes]
    if len(set(class_ids)) < len(class_ids):
        repeated = next(class_id for class_id in class_ids if class_ids.count(class_id) > 1)
        raise ValueError(
            f"class {repeated} is in several experiences, and clbench has class-incremental streams: each class in one"
        )
    unknown = {int(target) for experience in test for target in experience.dataset.targets} - set(class_ids)
    if unknown:
        raise ValueError(f"class {min(unknown)} has test images and no training images")
    return BenchmarkImages(Part(train, class_ids), Part(test, class_ids), tuple(class_ids), tuple(map(len, brought)))


def _pixels(image: Any) -> Image:
    """Return an image of any of the types that benchmarks have."""
    if isinstance(image, PIL.Image.Image):
        if image.mode not in ("L", "RGB"):
            image = image.convert("L" if image.mode in ("1", "I;16") else "RGB")
        pixels = np.asarray(image)
    else:
        array = np.asarray(image)
        is_tensor = not isinstance(image, np.ndarray)
        pixels = array.transpose(1, 2, 0) if is_tensor and array.ndim == 3 else array  # torch has channels first
    if pixels.dtype != np.uint8:
        pixels = _of_shares(pixels)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _of_shares(values: npt.NDArray[Any]) -> Image:
    """Return 8-bit pixels that were scaled to 0 .. 1, as `ToTensor` does. Raises ValueError for anything else."""
    levels = values * 255.0
    pixels = np.rint(levels).clip(0, 255).astype(np.uint8)
    if not np.allclose(levels, pixels, rtol=0, atol=1e-3):
        raise ValueError(
            "its images are not 8-bit: a transform has changed them. Build the benchmark with train_transform=None and "
            "eval_transform=None; the recipe normalizes and augments"
        )
    return pixels
