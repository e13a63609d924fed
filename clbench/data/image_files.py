"""Reads an image file of any size and kind, into the same pixels for training and for `predict`."""

from __future__ import annotations

import io
import lzma
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from clbench.data.image_fit import Fit

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats that Pillow reads by itself; for some others it starts another program."""

SUFFIXES: frozenset[str] = frozenset(
    {
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".pbm",
        ".pgm",
        ".ppm",
        ".pnm",
    }
)
"""Suffixes of the files in a folder that count as images, in lower case."""

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    RuntimeError,
    TypeError,
    LookupError,
    OverflowError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    PIL.Image.DecompressionBombError,
    PIL.Image.DecompressionBombWarning,
)
"""What Pillow raises on crafted or damaged files."""

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
"""Pillow's modes of one channel, with or without transparency."""

_READ_AT_ONCE = 64 << 20
"""Most bytes of a file that is read into memory as a whole before it is decoded."""

_ORIENTATION = 0x0112
"""EXIF's tag for how the camera was held."""

_KEEPS_ORIENTATION = {"exif", "xmp"}
"""The metadata in which Pillow finds it in a JPEG."""


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Let Pillow raise for images of more pixels than a photo has, and be silent about odd metadata.

    Warnings are filtered for all threads alike, so this surrounds their start and end.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        yield


@contextmanager
def opened(file: Path) -> Iterator[PIL.Image.Image]:
    """Open an image file without decoding its pixels yet. Raises what `UNREADABLE` lists."""
    handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe would wait
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is not a file")
        # Read at once, with as few calls as possible: threads wait for each other at each call, which doubles the time
        # for small images.
        at_once = found.st_size <= _READ_AT_ONCE
        content = os.read(handle, found.st_size) if at_once else b""
    finally:
        os.close(handle)
    with PIL.Image.open(io.BytesIO(content) if at_once else file, formats=FORMATS) as image:
        yield image


def read_image(file: Path, shape: tuple[int, int, int], fit: Fit) -> npt.NDArray[np.uint8]:
    """Return an image file's pixels as `fitted_pixels` does: (height, width, channels) of uint8.

    Raises what `UNREADABLE` lists; `reason` makes a sentence of it.
    """
    with bombs_refused(), opened(file) as image:
        check_sums(image, file)
        return fitted_pixels(image, shape, fit)


def check_sums(image: PIL.Image.Image, file: Path) -> None:
    """Raise what `UNREADABLE` lists if a PNG's checksums, which decoding ignores, do not match its content."""
    if image.format == "PNG":
        with PIL.Image.open(file, formats=("PNG",)) as again:
            again.verify()


def fitted_pixels(image: PIL.Image.Image, shape: tuple[int, int, int], fit: Fit) -> npt.NDArray[np.uint8]:
    """Return an image as (height, width, channels) of uint8, with 1 or 3 channels: of an animation, its first frame.

    It is turned as its EXIF data say. Of 16 bits the upper 8 are kept, rounded. Colours are made grey, or grey is
    repeated, and transparency is dropped. It is resized bilinearly and antialiased, unless it has that size.
    """
    height, width, channels = shape
    upright = _upright(image)
    converted = _converted(_as_8_bits(upright), "L" if channels == 1 else "RGB")
    # From its bytes, since numpy takes twice as long to get them. A bytearray, since an array of bytes is read-only.
    content = bytearray(_resized(converted, (width, height), fit).tobytes())
    return np.frombuffer(content, np.uint8).reshape(shape)


def reason(error: BaseException, file: Path) -> str:
    """Return why a file cannot be read, in words, without its name."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return (
            "it is empty"
            if file.is_file() and file.stat().st_size == 0
            else f"it is not an image ({', '.join(FORMATS)})"
        )
    if isinstance(error, (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning)):
        return "it has far more pixels than a photo (a decompression bomb)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


def upright_size(image: PIL.Image.Image) -> tuple[int, int]:
    """Return (height, width) of an image that is turned as its EXIF data say."""
    return (image.width, image.height) if _orientation(image) in range(5, 9) else (image.height, image.width)


def _orientation(image: PIL.Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns it itself
        return 1
    if image.format == "JPEG" and not _KEEPS_ORIENTATION & image.info.keys():
        return 1  # looking takes a tenth as long as decoding a small image
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except UNREADABLE:  # the pixels may be intact
        return 1


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.ImageOps.exif_transpose(image) if _orientation(image) in range(2, 9) else image


def _converted(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # otherwise Pillow warns of a palette's transparent colour
    return image if image.mode == mode else image.convert(mode)


def _as_8_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return an image of at most 8 bits a channel; deeper ones are scaled, never clipped."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("some of its pixels are not finite")
    low, high = _range(values)
    scaled = (values.astype(np.float64) - low) * (255 / ((high - low) or 1))
    return PIL.Image.fromarray(np.rint(scaled).astype(np.uint8))


def _range(values: npt.NDArray[np.generic]) -> tuple[float, float]:
    """Return the values of a deep image that become black and white.

    Integers count as 16 bits, floats as 0 .. 1 or 0 .. 255, whichever holds all of them. Others, whose range no format
    states, are scaled from their least to their largest value.
    """
    least, largest = float(values.min()), float(values.max())
    for high in (65535.0,) if values.dtype.kind in "iu" else (1.0, 255.0):
        if least >= 0 and largest <= high:
            return 0.0, high
    return least, largest


def _resized(image: PIL.Image.Image, size: tuple[int, int], fit: Fit) -> PIL.Image.Image:
    """Return the image in `size` (width, height)."""
    if image.size == size:
        return image
    bilinear = PIL.Image.Resampling.BILINEAR
    if fit == "stretch":
        return image.resize(size, bilinear)
    if fit == "crop":
        return PIL.ImageOps.fit(image, size, bilinear)
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    padded = PIL.Image.new(image.mode, size)
    padded.paste(image.resize(inner, bilinear), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return padded
