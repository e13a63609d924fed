"""Reads ahead from a memory-mapped array that does not fit into memory.

Touching a page that is not in memory blocks the program until the disk has delivered it, one page after another. If the
system is told some milliseconds earlier, it reads the pages of a whole batch in parallel while the program computes. A
prefetch thread would still wait for page after page, and would need its own locks and shutdown code.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

# Linux reads at most this much per request, whatever the disk; of a longer piece it would read only the beginning.
_REQUEST_BYTES = 128 * 1024


class ReadAhead:
    """Asks the system to read rows of a mapped array that will be needed soon."""

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        """The rows of `array` lie one after another in its file, as np.load maps them."""
        self._mapping: mmap.mmap = array._mmap  # type: ignore[attr-defined]
        self._first = array.offset % mmap.ALLOCATIONGRANULARITY  # mappings begin at a multiple of this
        self._row = array[0].nbytes

    def __call__(self, rows: npt.NDArray[np.int64]) -> None:
        """Make the system start reading `rows` (n,), in any order; return without waiting."""
        if not len(rows):
            return
        rows = np.sort(rows)
        ends = np.flatnonzero(np.diff(rows) > 1)  # consecutive rows are requested as one piece
        begins = self._first + self._row * rows[np.concatenate([[0], ends + 1])]
        stops = self._first + self._row * (rows[np.concatenate([ends, [-1]])] + 1)
        begins -= begins % mmap.PAGESIZE
        for begin, stop in zip(begins.tolist(), stops.tolist(), strict=True):
            for step in range(begin, stop, _REQUEST_BYTES):
                self._mapping.madvise(mmap.MADV_WILLNEED, step, min(_REQUEST_BYTES, stop - step))
