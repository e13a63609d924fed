"""Read the images of an Avalanche benchmark, with labels in the order in which it introduces the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

Image = npt.NDArray[np.uint8]
"""(height, width, channels), with 1 or 3 channels."""


@dataclass(frozen=True)
class BenchmarkImages:
    """The images and classes of a benchmark."""

    train: Part
    test: Part
    classes: tuple[str, ...]
    """The benchmark's own id of each class, experience by experience and ascending within one: `7`; or with its domain,
    counted from 1: `2/7`."""

    classes_per_experience: tuple[int, ...]
    domains: tuple[str, ...] | None = None


class Part:
    """The training or the test images, experience by experience."""

    def __init__(self, experiences: Sequence[Any], labels: Sequence[int]) -> None:
        self._datasets = [experience.dataset for experience in experiences]
        self.labels = np.array(labels, dtype=np.int64)
        """Position of each image's class in the benchmark's order, (n,)."""

    def images(self) -> Iterator[Image]:
        """Yield the images. Raises ValueError for one that is not 8-bit."""
        for dataset in self._datasets:
            for index in range(len(dataset)):
                yield _pixels(dataset[index][0])


def read(benchmark: Any, by_domain: bool = False) -> BenchmarkImages:
    """Return the images and classes of a benchmark: a class-incremental one or, `by_domain`, a domain-incremental one.

    Raises ValueError if it is not one.
    """
    try:
        train, test = list(benchmark.train_stream), list(benchmark.test_stream)
    except AttributeError as error:
        raise ValueError(f"{type(benchmark).__name__} has no train_stream and test_stream") from error
    return _by_domain(train, test) if by_domain else _by_class(train, test)


def _targets(experience: Any) -> list[int]:
    return [int(target) for target in experience.dataset.targets]


def _by_class(train: Sequence[Any], test: Sequence[Any]) -> BenchmarkImages:
    brought = [sorted(set(_targets(experience))) for experience in train]
    class_ids = [class_id for classes in brought for class_id in classes]
    if len(set(class_ids)) < len(class_ids):
        repeated = next(class_id for class_id in class_ids if class_ids.count(class_id) > 1)
        raise ValueError(
            f"class {repeated} is in several experiences; in a class-incremental stream, each class is in one"
        )
    unknown = {target for experience in test for target in _targets(experience)} - set(class_ids)
    if unknown:
        raise ValueError(f"class {min(unknown)} has test images but no training images")
    positions = {class_id: position for position, class_id in enumerate(class_ids)}
    train_part, test_part = (
        Part(part, [positions[target] for experience in part for target in _targets(experience)])
        for part in (train, test)
    )
    return BenchmarkImages(train_part, test_part, tuple(map(str, class_ids)), tuple(map(len, brought)))


def _by_domain(train: Sequence[Any], test: Sequence[Any]) -> BenchmarkImages:
    """Return a benchmark in which each experience has all classes.

    A test stream of one experience belongs to no domain. Its images are dealt out, the first of each class to the first
    domain, the second to the second and so on: the accuracy over all domains is then that on the benchmark's test set.
    """
    class_ids = sorted(set(_targets(train[0])))
    size = len(class_ids)
    if len(train) < 2 or any(sorted(set(_targets(experience))) != class_ids for experience in (*train, *test)):
        raise ValueError("its experiences have different classes, so they are not domains of the same classes")
    if len(test) not in (1, len(train)):
        raise ValueError(f"it has {len(train)} experiences for training and {len(test)} for testing")
    position = {class_id: at for at, class_id in enumerate(class_ids)}
    labels = [
        [[size * domain + position[target] for target in _targets(each)] for domain, each in enumerate(part)]
        for part in (train, test)
    ]
    if len(test) == 1:
        seen: Counter[int] = Counter()
        for at, label in enumerate(labels[1][0]):
            labels[1][0][at] += size * (seen[label] % len(train))
            seen[label] += 1
    domains = tuple(str(domain + 1) for domain in range(len(train)))
    return BenchmarkImages(
        Part(train, list(chain(*labels[0]))),
        Part(test, list(chain(*labels[1]))),
        tuple(f"{domain}/{class_id}" for domain in domains for class_id in class_ids),
        (size,) * len(train),
        domains,
    )


def _pixels(image: Any) -> Image:
    """Return an image of any of the types that benchmarks have. Raises ValueError for one that is not 8-bit."""
    if isinstance(image, PIL.Image.Image):
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            raise ValueError(f"its images are not 8-bit (Pillow's mode is {image.mode}); the benchmark must scale them")
        if image.mode not in ("L", "RGB"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = np.asarray(image)
    else:
        array = np.asarray(image)
        is_tensor = not isinstance(image, np.ndarray)
        pixels = array.transpose(1, 2, 0) if is_tensor and array.ndim == 3 else array  # torch has channels first
    if pixels.dtype != np.uint8:
        pixels = _of_shares(pixels)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _of_shares(values: npt.NDArray[Any]) -> Image:
    """Return the 8-bit pixels of values scaled to 0 .. 1, as by `ToTensor`. Raises ValueError for anything else."""
    levels = values * 255.0
    pixels = np.rint(levels).clip(0, 255).astype(np.uint8)
    if not np.allclose(levels, pixels, rtol=0, atol=1e-3):
        raise ValueError(
            "its images are not 8-bit: a transform has changed them. Build the benchmark with train_transform=None and "
            "eval_transform=None; the recipe normalizes and augments"
        )
    return pixels
