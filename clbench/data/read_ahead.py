"""Reading ahead from an array on the disk, of which memory cannot keep all.

A page that is touched before it is in memory keeps the program waiting for the disk, one page after another. Announced
some milliseconds earlier, the pages of a whole batch are read at once while the program computes.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

# Of a longer piece the system reads only the beginning; this is as much as Linux reads of any disk.
_AT_ONCE = 128 * 1024


class ReadAhead:
    """Announces rows of a mapped array to the system."""

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        """The rows of `array` lie one after another in its file, as np.load maps them."""
        self._mapping: mmap.mmap = array._mmap  # type: ignore[attr-defined]
        self._first = array.offset % mmap.ALLOCATIONGRANULARITY  # a mapping begins at a multiple of this
        self._row = array[0].nbytes

    def __call__(self, rows: npt.NDArray[np.int64]) -> None:
        """Have the system begin to read `rows` (n,), in any order; return without waiting for it."""
        if not len(rows):
            return
        rows = np.sort(rows)
        ends = np.flatnonzero(np.diff(rows) > 1)  # rows that follow each other are announced as one piece
        begins = self._first + self._row * rows[np.concatenate([[0], ends + 1])]
        stops = self._first + self._row * (rows[np.concatenate([ends, [-1]])] + 1)
        begins -= begins % mmap.PAGESIZE
        for begin, stop in zip(begins.tolist(), stops.tolist(), strict=True):
            for step in range(begin, stop, _AT_ONCE):
                self._mapping.madvise(mmap.MADV_WILLNEED, step, min(_AT_ONCE, stop - step))
