"""Images that do not fit into memory are requested from the disk one batch ahead; no number changes."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import clbench
from clbench.data import datasets
from clbench.data.batches import Images
from clbench.data.read_ahead import ReadAhead
from clbench.streams.stream import open_stream

PAGE = mmap.PAGESIZE


def mapped(path: Path, rows: int, row_bytes: int) -> Any:
    """An array of rows that differ in their first value, mapped from a file that nobody has read."""
    np.save(path, (np.arange(rows) % 251).astype(np.uint8).repeat(row_bytes).reshape(rows, row_bytes))
    return np.load(path, mmap_mode="c")


class FakeMapping:
    """Records the requests made to a mapping."""

    def __init__(self) -> None:
        self.requests: list[tuple[int, int]] = []

    def madvise(self, option: int, begin: int, length: int) -> None:
        assert option == mmap.MADV_WILLNEED
        self.requests.append((begin, length))


def test_rows_are_requested_by_whole_pages_and_neighbours_together(tmp_path: Path) -> None:
    ahead = ReadAhead(mapped(tmp_path / "x.npy", rows=40, row_bytes=PAGE))
    mapping = ahead._mapping = FakeMapping()  # type: ignore[assignment]
    ahead(np.array([7, 3, 20, 8]))
    # The header of a .npy file is 128 bytes, so every row reaches from 128 bytes into a page 128 bytes into the next.
    assert mapping.requests == [(3 * PAGE, PAGE + 128), (7 * PAGE, 2 * PAGE + 128), (20 * PAGE, PAGE + 128)]


def test_a_long_piece_is_requested_in_steps_that_the_system_reads_whole(tmp_path: Path) -> None:
    ahead = ReadAhead(mapped(tmp_path / "x.npy", rows=400, row_bytes=1024))
    mapping = ahead._mapping = FakeMapping()  # type: ignore[assignment]
    ahead(np.arange(300))
    step = 128 * 1024
    assert mapping.requests == [(0, step), (step, step), (2 * step, 300 * 1024 + 128 - 2 * step)]


def test_no_rows_request_nothing(tmp_path: Path) -> None:
    ahead = ReadAhead(mapped(tmp_path / "x.npy", rows=4, row_bytes=16))
    mapping = ahead._mapping = FakeMapping()  # type: ignore[assignment]
    ahead(np.array([], dtype=np.int64))
    assert mapping.requests == []


def test_every_batch_is_requested_before_it_is_read_and_while_another_is_in_use() -> None:
    calls: list[tuple[str, list[int]]] = []

    def request(rows: Any) -> None:
        calls.append(("requested", rows.tolist()))

    images = Images(np.zeros((9, 2, 2, 1), np.uint8), torch.device("cpu"), request)  # type: ignore[arg-type]
    images.on_read = lambda rows: calls.append(("read", rows.tolist()))
    for batch in images.read_batches(torch.arange(9).split(4)):
        calls.append(("used", [len(batch)]))
    assert calls == [
        ("requested", [0, 1, 2, 3]),
        ("requested", [4, 5, 6, 7]),
        ("read", [0, 1, 2, 3]),
        ("used", [4]),
        ("requested", [8]),
        ("read", [4, 5, 6, 7]),
        ("used", [4]),
        ("read", [8]),
        ("used", [1]),
    ]


def in_memory(array: Any) -> list[bool]:
    """Which pages of a mapped array are in memory, by the system's own account."""
    pages = -(-(array.offset + array.nbytes) // PAGE)
    flags = (ctypes.c_ubyte * pages)()
    start = array.ctypes.data - array.offset
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(pages * PAGE), flags) == 0
    return [bool(flag & 1) for flag in flags]


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux system calls to drop and inspect pages")
def test_what_is_requested_is_read_from_the_disk(tmp_path: Path) -> None:
    array = mapped(tmp_path / "x.npy", rows=4096, row_bytes=4096)
    with (tmp_path / "x.npy").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    array._mmap.madvise(mmap.MADV_RANDOM)
    if any(in_memory(array)):
        pytest.skip("this file system keeps its files in memory")
    rows = np.array([5, 1000, *range(2000, 2300)])
    ReadAhead(array)(rows)
    # The header of the file is 128 bytes, so each row reaches into a second page.
    expected = {
        row * array[0].nbytes // PAGE + page for row in rows.tolist() for page in range(array[0].nbytes // PAGE + 1)
    }
    until = time.monotonic() + 20
    while not expected <= (there := set(np.flatnonzero(in_memory(array)))) and time.monotonic() < until:
        time.sleep(0.01)
    assert expected <= there
    assert len(there) < len(array) / 2
    assert array[rows, 0].tolist() == [row % 251 for row in rows.tolist()]


@pytest.mark.slow
def test_a_run_on_more_data_than_memory_gives_the_same_numbers_and_reads_ahead(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    requested: list[int] = []
    original = ReadAhead.__call__

    def count(self: ReadAhead, rows: Any) -> None:
        requested.append(len(rows))
        original(self, rows)

    monkeypatch.setattr(ReadAhead, "__call__", count)
    options: dict[str, Any] = {"epochs": 1, "device": "cpu", "threads": 1, "data": data}
    runs = []
    request.addfinalizer(open_stream.cache_clear)
    for memory in (10**12, 1000):
        open_stream.cache_clear()
        monkeypatch.setattr(datasets, "available_memory", lambda memory=memory: memory)
        assert not requested
        (run,) = clbench.run("lwf", "splitdigits", out=tmp_path / str(memory), **options)
        runs.append([entry.weights_sha256 for entry in run.result.experiences])
    assert runs[0] == runs[1]
    assert sum(requested) > run.result.totals.samples_seen
