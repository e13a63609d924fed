"""Images that memory cannot keep are announced to the system a batch before they are needed, and stay what they are."""

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
    """An array of rows that are told apart by their first value, mapped from a file that nobody has read."""
    np.save(path, (np.arange(rows) % 251).astype(np.uint8).repeat(row_bytes).reshape(rows, row_bytes))
    return np.load(path, mmap_mode="c")


class Listening:
    """Stands for a mapping, and keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def madvise(self, option: int, begin: int, length: int) -> None:
        assert option == mmap.MADV_WILLNEED
        self.told.append((begin, length))


def test_rows_are_announced_by_whole_pages_and_neighbours_together(tmp_path: Path) -> None:
    ahead = ReadAhead(mapped(tmp_path / "x.npy", rows=40, row_bytes=PAGE))
    listening = ahead._mapping = Listening()  # type: ignore[assignment]
    ahead(np.array([7, 3, 20, 8]))
    # The header of a .npy file is 128 bytes, so every row reaches from 128 bytes into a page 128 bytes into the next.
    assert listening.told == [(3 * PAGE, PAGE + 128), (7 * PAGE, 2 * PAGE + 128), (20 * PAGE, PAGE + 128)]


def test_a_long_piece_is_announced_in_steps_of_which_the_system_reads_each_whole(tmp_path: Path) -> None:
    ahead = ReadAhead(mapped(tmp_path / "x.npy", rows=400, row_bytes=1024))
    listening = ahead._mapping = Listening()  # type: ignore[assignment]
    ahead(np.arange(300))
    step = 128 * 1024
    assert listening.told == [(0, step), (step, step), (2 * step, 300 * 1024 + 128 - 2 * step)]


def test_nothing_to_announce_is_no_error(tmp_path: Path) -> None:
    ahead = ReadAhead(mapped(tmp_path / "x.npy", rows=4, row_bytes=16))
    listening = ahead._mapping = Listening()  # type: ignore[assignment]
    ahead(np.array([], dtype=np.int64))
    assert listening.told == []


def test_every_part_is_announced_before_it_is_taken_and_while_another_is_in_use() -> None:
    heard: list[tuple[str, list[int]]] = []

    def announced(rows: Any) -> None:
        heard.append(("announced", rows.tolist()))

    images = Images(np.zeros((9, 2, 2, 1), np.uint8), torch.device("cpu"), announced)  # type: ignore[arg-type]
    images.watcher = lambda rows: heard.append(("taken", rows.tolist()))
    for taken in images.taken(torch.arange(9).split(4)):
        heard.append(("used", [len(taken)]))
    assert heard == [
        ("announced", [0, 1, 2, 3]),
        ("announced", [4, 5, 6, 7]),
        ("taken", [0, 1, 2, 3]),
        ("used", [4]),
        ("announced", [8]),
        ("taken", [4, 5, 6, 7]),
        ("used", [4]),
        ("taken", [8]),
        ("used", [1]),
    ]


def in_memory(array: Any) -> list[bool]:
    """Which pages of a mapped array are in memory, by the system's own account."""
    pages = -(-(array.offset + array.nbytes) // PAGE)
    flags = (ctypes.c_ubyte * pages)()
    start = array.ctypes.data - array.offset
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(pages * PAGE), flags) == 0
    return [bool(flag & 1) for flag in flags]


@pytest.mark.skipif(sys.platform != "linux", reason="pages are dropped and looked at by Linux's calls")
def test_what_is_announced_is_read_from_the_disk(tmp_path: Path) -> None:
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


def test_a_run_on_more_data_than_memory_gives_the_same_numbers_and_reads_ahead(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    announced: list[int] = []
    original = ReadAhead.__call__

    def count(self: ReadAhead, rows: Any) -> None:
        announced.append(len(rows))
        original(self, rows)

    monkeypatch.setattr(ReadAhead, "__call__", count)
    options: dict[str, Any] = {"epochs": 1, "device": "cpu", "threads": 1, "data": data}
    runs = []
    request.addfinalizer(open_stream.cache_clear)
    for memory in (10**12, 1000):
        open_stream.cache_clear()
        monkeypatch.setattr(datasets, "available_memory", lambda memory=memory: memory)
        assert not announced
        (run,) = clbench.run("lwf", "splitdigits", out=tmp_path / str(memory), **options)
        runs.append([entry["weights_sha256"] for entry in run.result["experiences"]])
    assert runs[0] == runs[1]
    assert sum(announced) > run.result["totals"]["samples_seen"]
