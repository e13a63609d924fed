"""Reads the images for each purpose, in the network's size, with their classes as positions in its scores."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clbench.base.events import Listener, Note
from clbench.data.image_decoding import decode
from clbench.errors import DataError, UsageError
from clbench.results.extension_result import ImagesUsed, Role
from clbench.results.network_record import ImageShape

UNLABELLED = -1

_PURPOSES: Mapping[Role, str] = {
    "new": "images to train on",
    "new_test": "images to test on",
    "old_test": "images of --old-test",
    "old_images": "images of --old-images",
    "unlabelled": "images of --unlabelled",
}

_IN_MEMORY = 2**29
"""Bytes; larger image sets are kept in a memory-mapped file."""


@dataclass(frozen=True)
class ImageSet:
    """The images of one purpose."""

    role: Role
    images: npt.NDArray[np.uint8]
    """(n, height, width, channels)."""

    labels: npt.NDArray[np.int64]
    """Position of each image's class in the scores, (n,); UNLABELLED if it is unknown."""

    names: tuple[str, ...]
    """Path of each image within the given folder."""

    broken: int
    """Images that could not be read and are left out."""

    sha256: str
    """Hash of images and labels."""

    def __len__(self) -> int:
        return len(self.labels)

    def of_class(self, position: int) -> int:
        """Return the number of images of a class."""
        return int((self.labels == position).sum())

    @property
    def record(self) -> ImagesUsed:
        """The entry in result.json."""
        return ImagesUsed(role=self.role, images=len(self), broken=self.broken, sha256=self.sha256)


def read_images(
    role: Role,
    root: Path,
    files: Sequence[tuple[Path, int]],
    shape: ImageShape,
    notify: Listener,
    work: Path,
) -> ImageSet:
    """Read image `files`, each with the position of its class, as images of `shape`.

    Many images are kept in a file in the folder `work`. Raises DataError if no image, or none of a class, can be read.
    """
    size = (shape.height, shape.width, shape.channels)
    large = len(files) * shape.height * shape.width * shape.channels > _IN_MEMORY
    place = work / f"images-{role}.npy" if large else None
    decoded = decode([file for file, _ in files], size, shape.fit, notify, role.replace("_", " "), place)
    if decoded.broken:
        shown = ", ".join(f"{path} ({problem})" for path, problem in decoded.broken[:3])
        which = f"{len(decoded.broken)} of {len(files)} {_PURPOSES[role]}"
        notify(Note(f"{which} cannot be read and are left out: {shown}"))
    labels = np.array([files[row][1] for row in decoded.rows], dtype=np.int64)
    if missing := {label for _, label in files} - set(labels.tolist()):
        first = next(file for file, label in files if label in missing)
        own = sum(file.parent == first.parent for file, _ in files)
        raise DataError(
            f"in {first.parent}, none of the {_PURPOSES[role]} can be read ({own} tried)",
            "Each class needs readable images. Replace the broken ones, or remove them and give others.",
        )
    names = tuple(_within(files[row][0], root) for row in decoded.rows)
    return ImageSet(role, decoded.images, labels, names, len(decoded.broken), _sha256(decoded.images, labels))


def without_copies(tested: ImageSet, trained: ImageSet, notify: Listener) -> ImageSet:
    """Return the test images without copies of training images, which are common in folders.

    Copies in the folders of two classes are reported. Raises UsageError if a class has no other test images.
    """
    digests = _digests(trained)
    _say_which_have_two_classes(trained, digests, notify)
    known = set(digests)
    own = np.array([digest not in known for digest in _digests(tested)], dtype=bool)
    if own.all():
        return tested
    copies = [Path(name) for name, is_own in zip(tested.names, own, strict=True) if not is_own]
    for name, label in zip(tested.names, tested.labels, strict=True):
        if not (own & (tested.labels == label)).any():
            raise UsageError(
                f"all images of {Path(name).parent} to test on are copies of images to train on, for example {name}",
                "A class needs at least two different images.",
            )
    count = f"{len(copies)} image{'s' if len(copies) > 1 else ''} to test on"
    notify(Note(f"{count} left out as copies of images to train on, for example {copies[0]}"))
    return _selected(tested, own)


def _say_which_have_two_classes(images: ImageSet, digests: Sequence[bytes], notify: Listener) -> None:
    first: dict[bytes, int] = {}
    twice = [
        (first[digest], row)
        for row, digest in enumerate(digests)
        if images.labels[first.setdefault(digest, row)] != images.labels[row]
    ]
    if twice:
        one, other = (images.names[row] for row in twice[0])
        count = f"{len(twice)} image{'s' if len(twice) > 1 else ''}"
        notify(Note(f"{count} to train on in two classes, for example {one} and {other}"))


def with_old_tests(sets: Mapping[Role, ImageSet], old: int, root: Path) -> dict[Role, ImageSet]:
    """Return the sets with the held-out images of old classes, the first `old`, moved to those of --old-test.

    They come from --also-old. Their names start with the folder `root`, since those of --old-test may be the same.
    """
    found, tested = dict(sets), sets.get("new_test")
    if tested is None or not (known := tested.labels < old).any():
        return found
    own = _selected(tested, known)
    names = tuple(f"{root.name}/{name}" for name in own.names)
    images, labels, broken = own.images, own.labels, 0
    if (given := sets.get("old_test")) is not None:
        images, labels = np.concatenate([given.images, images]), np.concatenate([given.labels, labels])
        names, broken = (*given.names, *names), given.broken
    found["old_test"] = ImageSet("old_test", images, labels, names, broken, _sha256(images, labels))
    if known.all():
        del found["new_test"]
    else:
        found["new_test"] = _selected(tested, ~known)
    return found


def _selected(images: ImageSet, own: npt.NDArray[np.bool_]) -> ImageSet:
    pixels, labels = images.images[own], images.labels[own]
    names = tuple(name for name, is_own in zip(images.names, own, strict=True) if is_own)
    return replace(images, images=pixels, labels=labels, names=names, sha256=_sha256(pixels, labels))


def _sha256(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> str:
    digest = hashlib.sha256(str((images.shape, labels.shape)).encode())
    for start in range(0, len(labels), 1000):
        digest.update(np.ascontiguousarray(images[start : start + 1000]).data)
    digest.update(labels.data)
    return digest.hexdigest()


def refuse_shared_images(sets: Mapping[Role, ImageSet], old: int) -> None:
    """Raise UsageError if test images of old classes, the first `old`, are trained on, as whichever class."""
    trained: tuple[tuple[Role, str], ...] = (("old_images", "--old-images"), ("new", "--images"))
    tested: tuple[tuple[Role, str], ...] = (("old_test", "--old-test"), ("new_test", "the test images of --also-old"))
    for (role, option), (test, where) in itertools.product(trained, tested):
        if role not in sets or test not in sets or not (sets[test].labels < old).any():
            continue
        known = set(_digests(sets[role]))
        images = zip(sets[test].names, sets[test].labels, _digests(sets[test]), strict=True)
        if shared := [name for name, label, digest in images if label < old and digest in known]:
            raise UsageError(
                f"{option} and {where} have {len(shared)} image{'s' if len(shared) > 1 else ''} in common, for "
                f"example {shared[0]}",
                "A test on training images says nothing. Keep them apart.",
            )


def _digests(images: ImageSet) -> list[bytes]:
    return [hashlib.sha256(images.images[row].tobytes()).digest() for row in range(len(images))]


def _within(file: Path, root: Path) -> str:
    """Return a file's path within the root as valid text, since file names need not be UTF-8.

    The root may be the file itself.
    """
    above = root.parent if file == root else root
    inside = file.relative_to(above) if file.is_relative_to(above) else file
    return str(inside).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
