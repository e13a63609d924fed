"""Folders of images for an extension: classes of the first network, classes added step by step, and test images.

    PLACE/base/CLASS            images that the first network is trained on
    PLACE/tests/0/CLASS         test images of its classes
    PLACE/steps/1/train/CLASS   images of the first step's new classes, and steps/1/test/CLASS
    PLACE/tests/1/CLASS         test images of all classes before the second step
    PLACE/old-images/CLASS      a few training images of the first network's classes, for rehearsal

Files are hard links if the images are on the same disk.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image

Files = Mapping[str, tuple[Sequence[Path], Sequence[Path]]]
"""Training and test images of each class."""

OLD_IMAGES = 5
"""For rehearsal, of each class."""


@dataclass(frozen=True)
class Photos:
    """The folders of one extension."""

    place: Path
    steps: int

    @property
    def base(self) -> Path:
        """Images that the first network is trained on."""
        return self.place / "base"

    @property
    def old_images(self) -> Path:
        """A few of these images, for rehearsal."""
        return self.place / "old-images"

    def step(self, number: int) -> Path:
        """Images of the classes of a step, counted from 1."""
        return self.place / "steps" / str(number)

    def tests(self, before: int) -> Path:
        """Test images of all classes known before step `before`."""
        return self.place / "tests" / str(before - 1)


def lay_out(place: Path, files: Files, base: Sequence[str], steps: Sequence[Sequence[str]]) -> Photos:
    """Lay out the images of some classes; existing files are left as they are."""
    photos = Photos(place, len(steps))
    if (place / "complete").exists():
        return photos
    shutil.rmtree(place, ignore_errors=True)
    # Published data have some images twice, under two classes, which `extend` refuses.
    trained = {_pixels(file) for names in steps for name in names for file in files[name][0]}
    for name in base:
        train, test = files[name]
        test = [file for file in test if _pixels(file) not in trained]
        _link(train, photos.base / name)
        _link(train[:OLD_IMAGES], photos.old_images / name)
        for number in range(len(steps)):
            _link(test, place / "tests" / str(number) / name)
    for number, names in enumerate(steps, start=1):
        for name in names:
            train, test = files[name]
            _link(train, photos.step(number) / "train" / name)
            _link(test, photos.step(number) / "test" / name)
            for later in range(number, len(steps)):
                _link(test, place / "tests" / str(later) / name)
    (place / "complete").touch()
    return photos


def _pixels(file: Path) -> bytes:
    """Return a hash of an image's pixels."""
    with PIL.Image.open(file) as image:
        return hashlib.sha256(repr(image.size).encode() + image.convert("RGB").tobytes()).digest()


def _link(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        try:
            os.link(file, folder / file.name)
        except OSError:  # another disk
            shutil.copy(file, folder / file.name)


def divided(folder: Path, most: int, share: float = 0.2) -> Files:
    """Return the classes of a folder without a test part: at most `most` images each, a share of them for testing."""
    found = {}
    for place in sorted(folder.iterdir()):
        images = sorted(place.iterdir())
        random.Random(place.name).shuffle(images)
        images = images[:most]
        count = round(share * len(images))
        found[place.name] = (images[count:], images[:count])
    return found


def with_parts(folder: Path) -> Files:
    """Return the classes of a folder with the parts train and test."""
    return {
        place.name: (sorted(place.iterdir()), sorted((folder / "test" / place.name).iterdir()))
        for place in sorted((folder / "train").iterdir())
    }


def as_files(archive: Path, folder: Path) -> Path:
    """Write the images of an .npz file as PNG files in train/CLASS and test/CLASS, once; return the folder."""
    if (folder / "complete").exists():
        return folder
    with np.load(archive) as arrays:
        names = [str(name) for name in arrays["classes"]]
        for part in ("train", "test"):
            for number, (pixels, label) in enumerate(zip(arrays[f"x_{part}"], arrays[f"y_{part}"], strict=True)):
                place = folder / part / names[int(label)]
                place.mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(pixels).save(place / f"{number:05}.png", compress_level=1)
    (folder / "complete").touch()
    return folder


def drawn(names: Sequence[str], seed: int, base: int, steps: Sequence[int]) -> tuple[list[str], list[list[str]]]:
    """Return classes drawn from a seed: those of the first network and those of each step."""
    order = list(names)
    random.Random(seed).shuffle(order)
    taken, later = order[:base], order[base:]
    groups = []
    for size in steps:
        groups.append(later[:size])
        later = later[size:]
    return taken, groups
