"""The cache of a frozen network's features: computed once, for all runs and processes that use this data folder.

An entry is built in a temporary folder, synced, and published by one rename (see feature_entries.py). One lock covers
all entries: an extraction takes all cores anyway, and the lock's holder may evict others and remove what killed
processes left.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from torch import nn

from clbench.base.events import FeaturesProgress, Listener, Note
from clbench.data.cache import DISK_FULL
from clbench.data.feature_entries import (
    PARTS,
    Key,
    entry_folder,
    features_folder,
    make_room,
    mark_used,
    read_entry,
    remove_entry,
    title,
    write_entry,
)
from clbench.data.feature_extraction import Extraction, Features, Images, Prepare
from clbench.data.npy_files import npy_file
from clbench.errors import MachineError
from clbench.system.files import sync_folder
from clbench.system.output import duration
from clbench.system.signals import Interruption

Mapped = dict[str, np.memmap[Any, np.dtype[np.float32]]]
"""Features (n, features) by part, mapped from the disk."""

_LONG = 30.0
"""Seconds; an extraction that takes longer is announced."""

_FIRST_BATCHES = 2.0
"""Seconds of batches from which its time is estimated."""

_BETWEEN_EVENTS = 0.2
_BETWEEN_TRIALS = 0.25
_BUILDING = ".building"


def open_features(
    key: Key,
    images: Mapping[str, Images],
    trunk: nn.Module,
    prepare: Prepare,
    device: torch.device,
    folder: Path,
    notify: Listener,
    interruption: Interruption,
) -> Mapped:
    """Return the features of the `train` and `test` images, (n, features), mapped from the cache in `folder`.

    Missing features are extracted by `trunk`, (n, channels, h, w) -> (n, features) in evaluation mode, from what
    `prepare` makes of the images. Everything that the features depend on is in `key`; entries in the cache under other
    keys are not used. If several processes want the same features, one extracts them and the others wait.

    What is written to the arrays never reaches the files. A damaged entry is replaced. Raises PluginError if the
    network fails or returns anything but finite features, MachineError if memory is short or the disk is full or cannot
    be written to. In these cases, and after an interruption, nothing incomplete is kept.
    """
    place = entry_folder(key, folder)
    if stored := _opened(place, images, lambda event: None):
        return stored
    with _writing(folder), _locked(features_folder(folder) / ".lock", notify, interruption):
        if stored := _opened(place, images, notify):
            return stored
        building = features_folder(folder) / _BUILDING
        _remove_leftovers(features_folder(folder))
        building.mkdir()
        try:
            with Extraction(trunk, prepare, device) as extraction:
                progress = _Progress(title(key), sum(len(images[part]) for part in PARTS), notify)
                _extract(building, images, extraction, folder, progress, interruption)
            write_entry(building, key, progress.seconds)
            sync_folder(building)
            if place.exists():  # damaged
                remove_entry(place)
            building.rename(place)
            sync_folder(features_folder(folder))
        finally:
            shutil.rmtree(building, ignore_errors=True)
        if stored := _opened(place, images, notify):
            return stored
    raise MachineError(f"the features that were just written to {place} cannot be read", "Check the disk.")


def _opened(place: Path, images: Mapping[str, Images], notify: Listener) -> Mapped | None:
    """Return the arrays of an intact entry for these images, or None; a damaged one is reported to `notify`."""
    if not place.is_dir():
        return None
    try:
        entry = read_entry(place)
        for part in PARTS:
            count, expected = entry.arrays[part].shape[0], len(images[part])
            if count != expected:
                raise ValueError(f"{part}.npy is for {count} images instead of {expected}")
        # Copy-on-write: torch shares the memory of writable arrays only.
        mapped = {part: np.load(place / f"{part}.npy", mmap_mode="c", allow_pickle=False) for part in PARTS}
    except (OSError, ValueError) as error:
        if place.is_dir():  # otherwise another process has just removed it
            notify(Note(f"{place} is damaged: {error}. It is not used; the features are extracted again."))
        return None
    mark_used(place)
    return mapped


def _extract(
    building: Path,
    images: Mapping[str, Images],
    extraction: Extraction,
    folder: Path,
    progress: _Progress,
    interruption: Interruption,
) -> None:
    """Write the features of all parts into the folder `building`."""
    for part in PARTS:
        batches = extraction.batches(images[part])
        first = next(batches)
        if part == PARTS[0]:
            for sentence in make_room(progress.total * first[0].nbytes, folder):
                progress.say(sentence)
        with npy_file(building / f"{part}.npy", first.dtype, (len(images[part]), first.shape[1])) as file:
            for batch in _with_first(first, batches):
                interruption.check()
                file.write(batch.data)
                progress.advance(len(batch))


def _with_first(first: Features, others: Iterator[Features]) -> Iterator[Features]:
    yield first
    yield from others


class _Progress:
    """Reports the progress of an extraction, and once how long it will take if that is long."""

    def __init__(self, features: str, total: int, notify: Listener) -> None:
        self.total = total
        self._features, self._notify = features, notify
        self._began = self._told = time.perf_counter()
        self._done = 0
        self._estimated = False

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._began

    def say(self, sentence: str) -> None:
        """Show the user a sentence."""
        self._notify(Note(sentence))

    def advance(self, images: int) -> None:
        """Count so many more images as done."""
        self._done += images
        now, rate = time.perf_counter(), self._done / self.seconds
        if not self._estimated and self.seconds >= _FIRST_BATCHES:
            self._estimated = True
            if (expected := self.total / rate) > _LONG:
                self.say(
                    f"extracting the features of {self._features}: {self.total:,} images, about {duration(expected)} "
                    f"at {rate:,.0f} images/s, once for all runs"
                )
        if now - self._told >= _BETWEEN_EVENTS or self._done == self.total:
            self._told = now
            self._notify(FeaturesProgress(self._features, self._done, self.total, rate))


# -- other processes, and the disk ------------------------------------------------------------------------------------


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn errors of the disk into MachineError."""
    try:
        features_folder(folder).mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        fix = "Free disk space" if error.errno in DISK_FULL else "Make the folder writable"
        raise MachineError(
            f"the features could not be written to {features_folder(folder)}: {error}. Nothing incomplete was kept.",
            f"{fix}, or choose another folder with --data.",
        ) from error


@contextmanager
def _locked(path: Path, notify: Listener, interruption: Interruption) -> Iterator[None]:
    """Hold the lock of all entries; wait for it unless interrupted."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        notify(Note("waiting for another process that is extracting features"))
        while not lock.is_locked:
            interruption.check()
            try:
                lock.acquire(timeout=_BETWEEN_TRIALS)
            except filelock.Timeout:
                continue
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(features: Path) -> None:
    """Remove what killed processes left."""
    for left in (features / _BUILDING, *features.glob(".*.removed")):
        shutil.rmtree(left, ignore_errors=True)
