"""Imports a folder of images of any size and kind: brought to one size, decoded once and stored as arrays."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from clbench.base.events import Listener
from clbench.data.cache import Report
from clbench.data.holding_out import SEED, SHARE
from clbench.data.image_decoding import Shape, decode
from clbench.data.image_files import GREY_MODES, UNREADABLE, bombs_refused, opened, upright_size
from clbench.data.image_fit import Fit
from clbench.data.image_folders import ImageFolder, hold_out, listed
from clbench.data.import_checks import balance, check_count, check_space, few, refused, refusing
from clbench.data.measuring import Measurement
from clbench.data.npy_files import npy_file
from clbench.errors import DataError
from clbench.system.output import legible

PARTS = ("train", "test")

_PROBED = 200
"""Images whose sizes are checked before any is decoded."""

_BROKEN_SHARE = 0.01
"""With this share of broken images, something is wrong with the whole folder."""

_USUAL_SIZES = (16, 32, 64, 96, 128)


@dataclass(frozen=True)
class Packed:
    """A folder of images as the four arrays of a dataset."""

    classes: tuple[str, ...]
    measurement: Measurement | None
    """Of what was written; None if it must be read again."""


class _OtherSize(Exception):
    """An image has another size than the first, although all must have the same."""


class _Coloured(Exception):
    """An image has colours, although none of those that were checked had any."""


def pack_folder(
    found: ImageFolder, place: Path, size: int | None, fit: Fit, report: Report, notify: Listener, what: str
) -> Packed:
    """Write the four arrays of a folder's images into `place`, all of them `size` pixels high and wide.

    Without a `size` they must already be of one size. They have three channels if any of them is in colour. A fifth
    of each class is held out for testing if the folder has no part for that. Broken images are left out if they are
    fewer than a hundredth. Raises DataError if there are more, and for images of several sizes.
    """
    with refusing(found.root):
        check_count(found.classes)
    if found.skipped:
        report(f"skipped: {legible(listed(found.skipped))}")
    if not found.has_test_part:
        report(f"there is no test part: {SHARE:.0%} of each class's images are held out for testing")
    folder = hold_out(found, SHARE, SEED)
    shape = _shape(folder, size)
    with refusing(found.root):
        check_space(place, sum(len(own) for own in itertools.chain(folder.train, folder.test)) * (math.prod(shape) + 8))
    try:
        return _packed(folder, place, shape, size is None, fit, report, notify, what)
    except _Coloured:
        for file in place.glob("*.npy"):
            file.unlink()
        return _packed(folder, place, (*shape[:2], 3), size is None, fit, report, notify, what)


def sizes_of(folder: ImageFolder) -> list[tuple[tuple[int, int], bool]]:
    """Return (height, width) of some of a folder's images, evenly from all classes, and whether they are grey."""
    by_turns = itertools.chain.from_iterable(itertools.zip_longest(*folder.train))
    found = []
    with bombs_refused():
        for file in itertools.islice((file for file in by_turns if file is not None), _PROBED):
            try:
                with opened(file) as image:
                    found.append((upright_size(image), image.mode in GREY_MODES))
            except UNREADABLE:  # decoding will report it
                continue
    return found


def usual_size(sizes: Sequence[tuple[int, int]]) -> int:
    """Return a size for images of these sizes: no larger than most of them, nor than what trains without a GPU."""
    middle = statistics.median(min(size) for size in sizes)
    return max(usual for usual in _USUAL_SIZES if usual <= max(middle, _USUAL_SIZES[0]))


def _shape(folder: ImageFolder, size: int | None) -> Shape:
    """Return the shape of the arrays' images. Raises DataError if the user has a choice to make."""
    found = sizes_of(folder)
    if not found:
        raise refused(folder.root, "none of its images can be read")
    channels = 1 if all(grey for _, grey in found) else 3
    if size is not None:
        return size, size, channels
    sizes = [each for each, _ in found]
    if len(set(sizes)) > 1:
        raise _several_sizes(folder.root, sizes)
    return (*sizes[0], channels)


def _several_sizes(root: Path, sizes: Sequence[tuple[int, int]]) -> DataError:
    ordered = sorted(set(sizes), key=math.prod)
    least, largest = (f"{width}×{height}" for height, width in (ordered[0], ordered[-1]))
    return DataError(
        f"{root} was not imported: its images have several sizes, from {least} to {largest} pixels.",
        f"Choose the size that they are brought to, for example --size {usual_size(sizes)}; --fit crop (the default), "
        "pad or stretch sets how.",
    )


def _packed(
    folder: ImageFolder,
    place: Path,
    shape: Shape,
    same_size: bool,
    fit: Fit,
    report: Report,
    notify: Listener,
    what: str,
) -> Packed:
    height, width, channels = shape

    def check(image: PIL.Image.Image) -> None:
        if same_size and upright_size(image) != (height, width):
            raise _OtherSize(upright_size(image))
        if channels == 1 and image.mode not in GREY_MODES:
            raise _Coloured

    measurement = Measurement(folder.classes)
    broken: list[tuple[Path, str]] = []
    counts = {}
    for part, by_class in zip(PARTS, (folder.train, folder.test), strict=True):
        files = [file for own in by_class for file in own]
        measurement.begin(f"x_{part}", np.dtype(np.uint8), (len(files), *shape))
        try:
            decoded = decode(
                files, shape, fit, notify, f"{what}, {part}", place / f"x_{part}.npy", check, measurement.add
            )
        except _OtherSize as other:
            raise _several_sizes(folder.root, [(height, width), other.args[0]]) from None
        broken += decoded.broken
        labels = np.repeat(np.arange(len(by_class)), [len(own) for own in by_class])[list(decoded.rows)]
        counts[part] = np.bincount(labels, minlength=len(by_class)).tolist()
        _check_broken(folder, broken)
        if part == "train" and not all(counts[part]):
            emptied = [name for name, count in zip(folder.classes, counts[part], strict=True) if not count]
            raise refused(folder.root, f"no training image of {few(emptied)} can be read ({_first(broken)})")
        _write_labels(place / f"y_{part}.npy", labels, measurement)
    if broken:
        which = "1 image is" if len(broken) == 1 else f"{len(broken)} images are"
        report(f"{which} broken and left out: {_first(broken)}")
    if not sum(counts["test"]):
        raise refused(folder.root, "there are no images for testing: each class has only one image")
    for sentence in balance(folder.classes, counts["train"], counts["test"]):
        report(sentence)
    return Packed(folder.classes, None if broken else measurement)


def _write_labels(path: Path, labels: npt.NDArray[np.int64], measurement: Measurement) -> None:
    measurement.begin(path.stem, np.dtype(np.int64), labels.shape)
    with npy_file(path, np.dtype(np.int64), labels.shape) as file:
        file.write(labels.data)
    if len(labels):
        measurement.add(labels.tobytes())


def _check_broken(folder: ImageFolder, broken: Sequence[tuple[Path, str]]) -> None:
    total = sum(len(own) for own in itertools.chain(folder.train, folder.test))
    if broken and len(broken) >= _BROKEN_SHARE * total:
        raise refused(folder.root, f"{len(broken)} of its {total:,} images are broken: {_first(broken)}")


def _first(broken: Sequence[tuple[Path, str]]) -> str:
    return few([f"{legible(str(file))} ({legible(why)})" for file, why in broken])
