"""The score below which an image shows none of a network's classes, and on which images it rests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from digit_photos import write_digits

import clbench
from clbench.extension.none_of_these import calibrated
from clbench.results.network_record import NoneBelow


def two_classes(highest, right):
    """Scores (n, 2) of images of class 0 with these highest scores, and their labels; 0 is the answer if `right`."""
    rows = [[score, score - 1] if own else [score - 1, score] for score, own in zip(highest, right, strict=True)]
    return np.array(rows, dtype=np.float32), np.zeros(len(rows), dtype=np.int64)


def test_95_percent_of_the_recognized_images_reach_it():
    judged = two_classes(range(40, 0, -1), [True] * 40)
    # 5 % of 40 are 2, with the scores 1 and 2.
    assert calibrated([judged]) == NoneBelow(score=3, images=40, classes=1)


def test_what_is_taken_for_another_class_does_not_count():
    judged = two_classes([-9, *range(1, 41), 99], [False, *[True] * 40, False])
    assert calibrated([judged]) == NoneBelow(score=3, images=40, classes=1)


def test_of_fewer_than_20_images_all_reach_it():
    assert calibrated([two_classes(range(5, 24), [True] * 19)]).score == 5


def test_it_may_be_negative_as_minus_a_distance():
    assert calibrated([two_classes(range(-40, 0), [True] * 40)]).score == -38


def test_without_a_recognized_image_there_is_none():
    assert calibrated([two_classes([1, 2], [False, False])]) is None
    assert calibrated([]) is None


def test_old_and_new_images_count_together():
    scores, labels = two_classes(range(1, 21), [True] * 20)
    # All scores 1 to 40, those of the other class from 21 on.
    assert calibrated([(scores, labels), (scores[:, ::-1] + 20, labels + 1)]) == NoneBelow(
        score=3, images=40, classes=2
    )


def highest_if_right(folder: Path, images: Path) -> list[float]:
    """The highest scores of the images that a stored network recognizes, the lowest first."""
    network = clbench.load_network(folder)
    found = []
    for file in sorted(images.glob("*/*.png")):
        with torch.no_grad():
            scores = network(network.transform(PIL.Image.open(file))[None])[0]
        if network.classes[scores.argmax()] == file.parent.name:
            found.append(scores.max().item())
    return sorted(found)


def rests_on(folder: Path, highest: list[float], classes: int) -> None:
    """Assert that a stored network's score is calibrated on images with these highest scores, of so many classes."""
    found = clbench.load_network(folder).record.none_below
    assert (found.images, found.classes) == (len(highest), classes)
    assert found.score == pytest.approx(highest[len(highest) // 20], rel=1e-4)


@pytest.fixture(scope="module")
def divided(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("divided")
    write_digits(folder / "photos" / "train", range(3), 0, 60)
    write_digits(folder / "photos" / "test", range(3), 60, 40)
    clbench.train(folder / "photos", network="mlp", size=16, out=folder / "model", threads=1, epochs=5)
    return folder


@pytest.mark.slow
def test_training_calibrates_on_the_test_images(divided):
    own = highest_if_right(divided / "model", divided / "photos" / "test")
    assert len(own) > 100
    rests_on(divided / "model", own, classes=3)
    assert clbench.load_network(divided / "model").none_below == pytest.approx(own[len(own) // 20], rel=1e-4)


@pytest.mark.slow
def test_extending_calibrates_anew_on_new_and_old_test_images(divided, photos, tmp_path):
    write_digits(tmp_path / "new" / "train", [8], 0, 40)
    write_digits(tmp_path / "new" / "test", [8], 40, 40)
    write_digits(tmp_path / "old", range(3), 100, 30)
    for name, old in (("with", tmp_path / "old"), ("without", None)):
        clbench.extend(
            divided / "model",
            tmp_path / "new",
            old_test=old,
            unlabelled=photos.any,
            strategy="slda",
            set={"network.train": "head"},
            out=tmp_path / name,
            threads=1,
        )
    new = highest_if_right(tmp_path / "with", tmp_path / "new" / "test")
    both = sorted(new + highest_if_right(tmp_path / "with", tmp_path / "old"))
    for name, own, classes in (("with", both, 4), ("without", new, 1)):
        rests_on(tmp_path / name, own, classes)
