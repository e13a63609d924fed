"""The published images of PACS, GTSRB, Tiny ImageNet and Caltech-101, if they are in the data folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from clbench.data.datasets import data_folder, open_dataset
from clbench.data.image_folders import find_images
from clbench.data.importing import import_dataset

pytestmark = pytest.mark.slow


def images(name: str) -> Path:
    path = data_folder() / "images" / name
    if not path.is_dir():
        pytest.skip(f"the images of {name} are not in {path}")
    return path


def test_pacs_has_four_domains_of_seven_classes(tmp_path: Path) -> None:
    info = import_dataset("pacs", images("pacs"), tmp_path, size=64)
    assert info.domains == ("art_painting", "cartoon", "photo", "sketch")
    assert info.classes[7:14] == tuple(
        f"cartoon/{name}" for name in ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    )
    assert info.split == "7+7+7+7" and info.train_size + info.test_size == 9_991  # Li et al. 2017
    data = open_dataset("pacs", tmp_path)
    for domain, count in enumerate((2_048, 2_344, 1_670, 3_929)):
        own = [((labels // 7) == domain).sum() for labels in (data.y_train, data.y_test)]
        assert sum(own) == count and own[1] / count == pytest.approx(0.2, abs=0.001)


def test_gtsrb_has_43_unequal_classes() -> None:
    found = find_images(images("gtsrb"), domains=None)
    sizes = [len(own) for own in found.train]
    assert found.domains is None and len(found.classes) == 43
    assert (sum(sizes), min(sizes), max(sizes)) == (39_209, 210, 2_250)  # Stallkamp et al. 2011
    assert sum(map(len, found.test)) == 12_630


def test_tiny_imagenet_has_500_and_50_images_of_200_classes() -> None:
    found = find_images(images("tinyimagenet"), domains=None)
    assert found.domains is None and len(found.classes) == 200
    assert {len(own) for own in found.train} == {500} and {len(own) for own in found.test} == {50}


def test_caltech101_has_101_objects_and_a_background() -> None:
    found = find_images(images("caltech101"), domains=None)
    sizes = [len(own) for own in found.train]
    assert found.domains is None and len(found.classes) == 102 and not found.has_test_part
    assert (sum(sizes), min(sizes), max(sizes)) == (9_144, 31, 800)
