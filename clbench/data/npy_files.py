"""The .npy files of a dataset: written as a stream of bytes, and their headers read without unpickling anything."""

from __future__ import annotations

import os
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# A multiple of 1 and 3 channels and of every integer's size, so that a chunk never cuts a pixel or a label in two.
CHUNK = 3 << 20


@contextmanager
def npy_file(path: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """Yield a new .npy file for an array of that dtype and shape. The caller writes its bytes; it is synced on exit.

    Plain writes, because a full disk makes them raise OSError, whereas it kills a process that writes to a memory map.
    """
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with path.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield file
        file.flush()
        os.fsync(file.fileno())


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Return (shape, whether in Fortran order, dtype) of the .npy `file`, which is at its beginning.

    Raises ValueError if the header is invalid.
    """
    version = np.lib.format.read_magic(file)
    try:
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            raise ValueError(f"its npy format {version} is not for plain arrays")
    except (SyntaxError, tokenize.TokenError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"its npy header cannot be read ({type(error).__name__})") from error
    return shape, fortran_order, dtype
