"""The images of one purpose, in the size of the network's, with their classes as positions in its scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clbench.base.events import Listener, Note
from clbench.data.image_decoding import decode
from clbench.errors import DataError, UsageError
from clbench.results.extension_result import ImagesUsed, Role
from clbench.results.network_record import ImageShape

UNLABELLED = -1

_IN_MEMORY = 2**29
"""Bytes; more are kept in a file and mapped."""


@dataclass(frozen=True)
class ImageSet:
    """The images of one purpose."""

    role: Role
    images: npt.NDArray[np.uint8]
    """(n, height, width, channels)."""

    labels: npt.NDArray[np.int64]
    """Position of each image's class in the scores, (n,); UNLABELLED if it is not known."""

    names: tuple[str, ...]
    """Path of each image within the folder that was given."""

    broken: int
    """Images that could not be read and are left out."""

    sha256: str
    """Hash of images and labels."""

    def __len__(self) -> int:
        return len(self.labels)

    def of_class(self, position: int) -> int:
        """Return how many images of a class there are."""
        return int((self.labels == position).sum())

    @property
    def record(self) -> ImagesUsed:
        """What result.json says of them."""
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
        notify(Note(f"{len(decoded.broken)} of {len(files)} images cannot be read and are left out: {shown}"))
    labels = np.array([files[row][1] for row in decoded.rows], dtype=np.int64)
    if missing := {label for _, label in files} - set(labels.tolist()):
        first = next(file for file, label in files if label in missing)
        raise DataError(f"no image in {first.parent} can be read", "Each class needs images that can be.")
    digest = hashlib.sha256(str((decoded.images.shape, labels.shape)).encode())
    for start in range(0, len(labels), 1000):
        digest.update(np.ascontiguousarray(decoded.images[start : start + 1000]).data)
    digest.update(labels.data)
    names = tuple(_within(files[row][0], root) for row in decoded.rows)
    return ImageSet(role, decoded.images, labels, names, len(decoded.broken), digest.hexdigest())


def refuse_shared_images(sets: Mapping[Role, ImageSet]) -> None:
    """Raise UsageError if images are both trained on and tested on."""
    pairs: tuple[tuple[Role, Role, str], ...] = (
        ("old_images", "old_test", "--old-images and --old-test"),
        ("new", "new_test", "the images to train on and those to test on"),
    )
    for trained, tested, what in pairs:
        if trained not in sets or tested not in sets:
            continue
        known, test = set(_digests(sets[trained])), sets[tested]
        if shared := [name for name, own in zip(test.names, _digests(test), strict=True) if own in known]:
            raise UsageError(
                f"{what} have {len(shared)} image{'s' if len(shared) > 1 else ''} in common, for example {shared[0]}",
                "A test on images that were trained on says nothing. Keep them apart.",
            )


def _digests(images: ImageSet) -> list[bytes]:
    return [hashlib.sha256(each.tobytes()).digest() for each in images.images]


def _within(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
