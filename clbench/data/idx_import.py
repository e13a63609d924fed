"""Converts the idx files of MNIST and of datasets like it to an .npz."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from clbench.data.import_checks import check_space, refusing
from clbench.data.npy_files import CHUNK
from clbench.errors import DataError

_NAME = re.compile(r"(train|t10k|test)[-_.](images|labels)[-_.]idx[1-4][-_.]ubyte(\.gz)?", re.IGNORECASE)
_BYTES = 0x08
"""The type of idx files of unsigned bytes."""

_MOST_UNZIPPED = 1032
"""Most bytes that one byte of a .gz can unpack to, by its format."""


def idx_files(folder: Path) -> dict[str, Path]:
    """Return the idx files in a folder by the name of the array that they hold, `x_train` and so on.

    Raises DataError if the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir(), reverse=True)  # reversed, so that unpacked ones come last and are taken
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from error
    found = {}
    for file in entries:
        if match := _NAME.fullmatch(file.name):
            axis = "x" if match[2].lower() == "images" else "y"
            found[f"{axis}_{'train' if match[1].lower() == 'train' else 'test'}"] = file
    return found


def write_npz(files: dict[str, Path], to: Path) -> None:
    """Write the arrays of idx files into an .npz. Raises DataError for another kind of file, or too little room."""
    with zipfile.ZipFile(to, "w") as archive:
        for array, file in files.items():
            with refusing(file), archive.open(f"{array}.npy", "w", force_zip64=True) as copy:
                _copy(file, copy, to.parent)


def _copy(file: Path, to: IO[bytes], place: Path) -> None:
    """Write the array of an idx file as an .npy, piece by piece: a zipped one may unpack to any size."""
    with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as content:
        zero, kind, axes = struct.unpack(">HBB", content.read(4))
        if (zero, kind) != (0, _BYTES) or axes > 4:
            raise ValueError("it is not an idx file of bytes")
        shape = struct.unpack(f">{axes}I", content.read(4 * axes))
        missing = math.prod(shape)
        size = file.stat().st_size
        if missing > (_MOST_UNZIPPED * size if file.suffix.lower() == ".gz" else size):
            raise ValueError(f"it claims {shape} bytes, but has fewer")
        check_space(place, missing)
        np.lib.format.write_array_header_1_0(to, {"descr": "|u1", "fortran_order": False, "shape": shape})
        while missing and (piece := content.read(min(missing, CHUNK))):
            to.write(piece)
            missing -= len(piece)
        if missing or content.read(1):
            raise ValueError(f"it claims {shape} bytes, but has {'fewer' if missing else 'more'}")
