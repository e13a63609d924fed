"""Decodes many image files into one array of pixels, in memory or on the disk, by as many threads as pay off."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import PIL.Image

from clbench.base.events import DecodingProgress, Listener
from clbench.data.image_files import UNREADABLE, bombs_refused, check_sums, fitted_pixels, opened, reason
from clbench.data.image_fit import Fit
from clbench.system.machine import available_cores

Shape = tuple[int, int, int]
"""Height, width and channels."""

Check = Callable[[PIL.Image.Image], None]
"""Raises for an opened image that cannot be accepted; its pixels are not decoded yet."""

_PART, _PART_BYTES = 32, 4 << 20
"""Images that a thread decodes before it hands them over: this many, or fewer if they are large."""

_PIXELS_PER_THREAD = 9000
"""Pixels that take as long to decode as what only one thread can do at a time, measured on JPEGs of 32 to 320 px.

With smaller images, each further thread only makes the others wait: with two, files of 64 px took 1.2 times as long.
"""

_PROBED = 8
"""Images whose sizes are checked for that."""

_AHEAD = 8
"""Parts per thread that may wait to be collected, so that no thread waits for one that the machine has paused."""

_SECONDS_BETWEEN_EVENTS = 0.25


@dataclass(frozen=True)
class Decoded:
    """The result of decoding a list of files."""

    images: npt.NDArray[np.uint8]
    """(n, height, width, channels), of the readable files, in order."""

    rows: tuple[int, ...]
    """Which of the given files these are."""

    broken: tuple[tuple[Path, str], ...]
    """The others, each with the reason why it cannot be read."""


def anything(image: PIL.Image.Image) -> None:
    """A Check that accepts every image."""


def ignored(content: memoryview) -> None:
    """Ignore what was written."""


def decode(
    files: Sequence[Path],
    shape: Shape,
    fit: Fit,
    notify: Listener,
    what: str,
    out: Path | None = None,
    check: Check = anything,
    written: Callable[[memoryview], None] = ignored,
) -> Decoded:
    """Return all images of `files` in `shape`, as `image_files.read_image` reads each.

    With `out` they are written to this new .npy and mapped from it, so that memory stays bounded, and `written` gets
    all their bytes in order. `what` names them in the progress. Raises what `check` raises, and OSError if `out` cannot
    be written.
    """
    rows: list[int] = []
    broken: list[tuple[Path, str]] = []
    images = np.empty((0 if out else len(files), *shape), np.uint8)
    with contextlib.nullcontext() if out is None else _npy(out, shape, len(files), rows) as file:
        for part in _parts(files, shape, fit, notify, what, check):
            if file is None:
                images[len(rows) : len(rows) + len(part.rows)] = part.images
            elif part.rows:
                file.write(part.images.data)
                written(part.images.data.cast("B"))
            rows += part.rows
            broken += part.broken
    if out is not None and rows:  # an empty file cannot be mapped
        images = np.load(out, mmap_mode="c", allow_pickle=False)
    return Decoded(images[: len(rows)], tuple(rows), tuple(broken))


@contextlib.contextmanager
def _npy(path: Path, shape: Shape, most: int, rows: Sequence[int]) -> Iterator[IO[bytes]]:
    """Yield a new .npy of at most so many images, which the caller writes; on exit `rows` has as many as were written.

    Plain writes, because a full disk makes them raise OSError, whereas it kills a process that writes to a memory map.
    """
    with path.open("xb") as file:
        _write_header(file, (most, *shape))
        yield file
        file.seek(0)
        _write_header(file, (len(rows), *shape))  # of the same length, since numpy leaves room for more digits
        file.flush()
        os.fsync(file.fileno())


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


@dataclass(frozen=True)
class _Part:
    """Consecutive images, as `Decoded` has them."""

    images: npt.NDArray[np.uint8]
    rows: list[int]
    broken: list[tuple[Path, str]]


def _parts(files: Sequence[Path], shape: Shape, fit: Fit, notify: Listener, what: str, check: Check) -> Iterator[_Part]:
    """Yield all images in order, decoded by threads: Pillow's decoders and its resizing run in parallel."""
    progress = _Progress(what, len(files), notify)
    pending: deque[Future[_Part]] = deque()
    size = max(1, min(_PART, _PART_BYTES // math.prod(shape)))
    with bombs_refused(), ThreadPoolExecutor(count := _threads_for(files)) as threads:
        try:
            for first in range(0, len(files), size):
                rows = range(first, min(first + size, len(files)))
                pending.append(threads.submit(_part, files, rows, shape, fit, check))
                if len(pending) > _AHEAD * count:
                    yield progress.after(pending.popleft().result())
            while pending:
                yield progress.after(pending.popleft().result())
        finally:
            threads.shutdown(cancel_futures=True)
    progress.show()


def _threads_for(files: Sequence[Path]) -> int:
    """Return how many threads decode such files fastest: one for each core, but fewer for small images."""
    pixels = []
    for file in files[:: math.ceil(len(files) / _PROBED) or 1]:
        with contextlib.suppress(*UNREADABLE), opened(file) as image:  # decoding will report what cannot be read
            pixels.append(image.width * image.height)
    usual = statistics.median(pixels) if pixels else 0
    return max(1, min(available_cores(), int(usual / _PIXELS_PER_THREAD)))


def _part(files: Sequence[Path], rows: range, shape: Shape, fit: Fit, check: Check) -> _Part:
    part = _Part(np.empty((len(rows), *shape), np.uint8), [], [])
    for row in rows:
        try:
            with opened(files[row]) as image:
                check(image)
                check_sums(image, files[row])
                part.images[len(part.rows)] = fitted_pixels(image, shape, fit)
        except UNREADABLE as error:
            part.broken.append((files[row], reason(error, files[row])))
        else:
            part.rows.append(row)
    return replace(part, images=part.images[: len(part.rows)])


class _Progress:
    """Tells a listener how many images are done, a few times a second."""

    def __init__(self, what: str, total: int, notify: Listener) -> None:
        self.what, self.total, self.notify = what, total, notify
        self.done = 0
        self.begun = self.shown = time.perf_counter()

    def after(self, part: _Part) -> _Part:
        self.done += len(part.rows) + len(part.broken)
        if self.done < self.total and time.perf_counter() - self.shown >= _SECONDS_BETWEEN_EVENTS:
            self.show()
        return part

    def show(self) -> None:
        self.shown = time.perf_counter()
        rate = self.done / max(self.shown - self.begun, 1e-9)
        self.notify(DecodingProgress(self.what, self.done, self.total, rate))
