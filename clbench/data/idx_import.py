"""The idx files of MNIST and of datasets like it, as an .npz."""

from __future__ import annotations

import gzip
import math
import re
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clbench.data.import_checks import refusing

_NAME = re.compile(r"(train|t10k|test)[-_.](images|labels)[-_.]idx[1-4][-_.]ubyte(\.gz)?", re.IGNORECASE)
_BYTES = 0x08
"""The type of idx files of unsigned bytes."""


def idx_files(folder: Path) -> dict[str, Path]:
    """Return the idx files in a folder by the name of the array that they hold, `x_train` and so on."""
    found = {}
    for file in sorted(folder.iterdir(), reverse=True):  # reversed, so that unpacked ones come last and are taken
        if match := _NAME.fullmatch(file.name):
            axis = "x" if match[2].lower() == "images" else "y"
            found[f"{axis}_{'train' if match[1].lower() == 'train' else 'test'}"] = file
    return found


def write_npz(files: dict[str, Path], to: Path) -> None:
    """Write the arrays of idx files into an .npz. Raises DataError for a file that is none."""
    np.savez(to, **{array: _read(file) for array, file in files.items()})  # type: ignore[arg-type]


def _read(file: Path) -> npt.NDArray[np.uint8]:
    with refusing(file):
        content = gzip.decompress(file.read_bytes()) if file.suffix.lower() == ".gz" else file.read_bytes()
        zero, kind, axes = struct.unpack_from(">HBB", content)
        if (zero, kind) != (0, _BYTES) or axes > 4:
            raise ValueError("it is not an idx file of bytes")
        shape = struct.unpack_from(f">{axes}I", content, 4)
        start = 4 + 4 * axes
        if len(content) != start + math.prod(shape):
            raise ValueError(f"it claims {shape} bytes, and has {len(content) - start:,}")
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
