"""A first network on seven digits, made once, and the images to extend it by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from digit_photos import write_digits

import clbench


@dataclass(frozen=True)
class Photos:
    """Folders of images; none has an image of another."""

    base: Path
    """Digits 0 to 6, 60 images each."""

    base_test: Path
    """20 further images each."""

    old_images: Path
    """5 further images each."""

    one: Path
    """Digit 7, 40 images."""

    three: Path
    """Digits 7 to 9, 40 images each."""

    any: Path
    """Images of all digits, taken as unlabelled."""


@pytest.fixture(scope="session")
def photos(once) -> Photos:
    def make(folder: Path) -> None:
        write_digits(folder / "base", range(7), 0, 60)
        write_digits(folder / "base-test", range(7), 60, 20)
        write_digits(folder / "old-images", range(7), 80, 5)
        write_digits(folder / "one", [7], 0, 40)
        write_digits(folder / "three", [7, 8, 9], 0, 40)
        write_digits(folder / "any", range(10), 90, 10)

    folder = once("photos", make)
    return Photos(*(folder / name for name in ("base", "base-test", "old-images", "one", "three", "any")))


@pytest.fixture(scope="session")
def model(once, photos: Photos) -> Path:
    """A network that knows digits 0 to 6."""

    def make(folder: Path) -> None:
        clbench.train(photos.base, network="mlp", size=16, epochs=15, out=folder / "model", threads=1)

    return once("model", make) / "model"
