"""Compares importing a folder of JPEGs with a bare loop over the decoder that stores nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image

from benchmarks.measuring import Bench, Row, Unavailable, alternating, ours_over_theirs
from clbench.data.image_folders import find_images
from clbench.data.importing import import_dataset
from clbench.system.machine import available_cores

FOLDER = "images/tinyimagenet"
PART = 32


def decoding(bench: Bench) -> list[Row]:
    """Tiny ImageNet's 110,000 JPEGs of 64 px, on all cores: read, decoded, checked, hashed and written."""
    folder = bench.data / FOLDER
    if not folder.is_dir():
        raise Unavailable(f"Tiny ImageNet is not in {folder}, as train/CLASS/*.JPEG and test/CLASS/*.JPEG")
    found = find_images(folder)
    files = [file for own in (*found.train, *found.test) for file in own]
    pairs = alternating(bench.repeats, lambda: ours(folder), lambda: theirs(files), warm_up=True)
    what = f"importing {len(files):,} JPEGs of 64 px"
    return [ours_over_theirs(what, "a bare loop over Pillow's decoder, on all cores", 1.15, pairs)]


def ours(folder: Path) -> float:
    """Return the seconds of an import into an empty data folder."""
    with tempfile.TemporaryDirectory() as data:
        began = time.perf_counter()
        import_dataset("mine", folder, Path(data))
        return time.perf_counter() - began


def theirs(files: Sequence[Path]) -> float:
    """Return the seconds of decoding all files into arrays, which are discarded."""
    began = time.perf_counter()
    with ThreadPoolExecutor(available_cores()) as threads:
        for _ in threads.map(_decoded, [files[first : first + PART] for first in range(0, len(files), PART)]):
            pass
    return time.perf_counter() - began


def _decoded(files: Sequence[Path]) -> None:
    for file in files:
        with PIL.Image.open(file) as image:
            np.asarray(image.convert("RGB"))
