"""What of the images goes into the finished folder, without reading all of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np

from clbench.deployment.exporting import COMPARED
from clbench.extension import publishing
from clbench.extension.image_sets import ImageSet


def images_in_a_file(path: Path, role: str, count: int) -> ImageSet:
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, 64, 64, 3))
    images[:, 0, 0, 0] = np.arange(count) % 256
    return ImageSet(role, images, np.zeros(count, dtype=np.int64), tuple(map(str, range(count))), 0, "")


def test_images_to_try_an_exported_file_on_are_taken_from_all_without_reading_all(tmp_path):
    sets = {role: images_in_a_file(tmp_path / f"{role}.npy", role, n) for role, n in (("new", 2000), ("new_test", 21))}
    tracemalloc.start()
    images, said = publishing._test_images(sets)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    together = np.concatenate([sets["new_test"].images, sets["new"].images])
    expected = together[np.linspace(0, 2020, COMPARED).astype(np.int64)]
    assert said == f"{COMPARED} of the images"
    np.testing.assert_array_equal(images, expected)
    assert most < 4 * images.nbytes < together.nbytes
