"""`clbench predict`: what is in images, in which form, and what of a folder cannot be read."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kept_runs
import numpy as np
import PIL.Image
import pytest
import torch

import clbench
from clbench.cli import program
from clbench.data.datasets import open_dataset
from clbench.deployment.predicting import image_files
from clbench.errors import UsageError
from clbench.results.stored_runs import StoredRun


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def predict(
    kept: StoredRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """The command on the network of `kept`, in a folder with images: photos/CLASS_ROW.png, and one in photos/more."""

    def call(*arguments: str, network: Path = kept.path) -> Done:
        monkeypatch.setattr(sys, "argv", ["clbench", "predict", str(network), *arguments])
        threads = torch.get_num_threads()
        with pytest.raises(SystemExit) as ended:
            program.main()
        torch.set_num_threads(threads)
        streams = capsys.readouterr()
        return Done(int(ended.value.code or 0), streams.out, streams.err)

    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture
def photos(data: Path, tmp_path: Path) -> list[str]:
    """Test images of the digits as files, in the order in which a folder is read."""
    digits = open_dataset("digits", data)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    names = []
    for row in range(6):
        name = f"photos/{row}.png" if row < 5 else "photos/more/5.png"
        PIL.Image.fromarray(digits.x_test[row, :, :, 0]).save(tmp_path / name)
        names.append(name)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / ".hidden.png").write_text("no image")
    return names


def expected(kept: StoredRun, data: Path) -> Any:
    """The probabilities (6, 10) of the images in `photos`, and the classes in their order."""
    network = clbench.load_network(kept.path)
    with torch.no_grad():
        x = torch.stack([network.transform(image) for image in open_dataset("digits", data).x_test[:6]])
        return network(x).softmax(dim=1).numpy(), network.classes


def test_each_image_gets_its_likeliest_class(
    predict: Callable[..., Done], photos: list[str], kept: StoredRun, data: Path
) -> None:
    done = predict("photos")
    probabilities, classes = expected(kept, data)
    best = [(classes[row.argmax()], row.max()) for row in probabilities]
    assert done.out.splitlines() == [f"{name}: {c} {100 * p:.1f} %" for name, (c, p) in zip(photos, best, strict=True)]
    assert (done.code, done.err) == (0, "")
    assert [int(c) for c, _ in best] == kept_runs.predicted(kept, 4)[:6].tolist()


def test_json_has_the_probabilities_as_numbers(
    predict: Callable[..., Done], photos: list[str], kept: StoredRun, data: Path
) -> None:
    rows = json.loads(predict("photos", "--json", "--top", "10").out)
    probabilities, classes = expected(kept, data)
    assert [row["image"] for row in rows] == photos
    for row, own in zip(rows, probabilities, strict=True):
        found = {each["class"]: each["probability"] for each in row["classes"]}
        assert [found[name] for name in classes] == pytest.approx(own.tolist(), abs=1e-6)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert sum(found.values()) == pytest.approx(1)


def test_csv_has_a_row_per_class(predict: Callable[..., Done], photos: list[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(predict("photos", "--csv", "--top", "3").out)))
    assert [row["image"] for row in rows] == [name for name in photos for _ in range(3)]
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 6
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


def test_broken_images_are_named_and_left_out(predict: Callable[..., Done], photos: list[str], tmp_path: Path) -> None:
    (tmp_path / "photos" / "0.png").write_bytes((tmp_path / "photos" / "0.png").read_bytes()[:60])
    (tmp_path / "photos" / "2.png").write_text("no image")
    (tmp_path / "photos" / "3.png").write_bytes(b"")
    done = predict("photos")
    assert [line.partition(":")[0] for line in done.out.splitlines()] == [photos[1], photos[4], photos[5]]
    assert [line.partition(" cannot")[0] for line in done.err.splitlines()[:3]] == [photos[0], photos[2], photos[3]]
    assert done.err.splitlines()[3] == "3 of 6 images could not be read"
    assert done.code == 1
    as_json = predict("photos", "--json")
    assert [("problem" in row) for row in json.loads(as_json.out)] == [True, False, True, True, False, False]
    assert as_json.code == 1


def test_an_image_too_large_for_memory_is_broken(
    predict: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 50)
    PIL.Image.new("L", (10, 10)).save(tmp_path / "bomb.png")
    done = predict("bomb.png")
    assert done.code == 1 and "bomb.png cannot be read" in done.err


def test_what_is_no_plain_file_is_broken_and_waited_for_by_nobody(predict: Callable[..., Done], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    done = predict("pipe.png")
    assert done.code == 1 and "pipe.png cannot be read: it is not a file" in done.err


def test_a_format_for_which_pillow_starts_another_program_is_not_read(
    predict: Callable[..., Done], tmp_path: Path
) -> None:
    PIL.Image.new("L", (8, 8)).save(tmp_path / "drawing.eps")
    done = predict("drawing.eps")
    assert done.code == 1 and "it is not an image (PNG, JPEG" in done.err


def test_files_folders_and_patterns_are_read_once_each(photos: list[str], tmp_path: Path) -> None:
    given = [str(tmp_path / name) for name in ("photos/3.png", "photos", "photos/*.png", "photos/**/*.png")]
    found = [str(path.relative_to(tmp_path)) for path in image_files(given)]
    assert found == ["photos/3.png", *(name for name in photos if name != "photos/3.png")]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("nowhere.png", "no image or folder nowhere"), ("*.gif", "no file matches"), ("empty", "no images in empty")],
)
def test_what_leads_to_no_image_is_refused(
    name: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=problem):
        image_files([name])


def test_images_are_answered_the_same_one_at_a_time_and_together(
    predict: Callable[..., Done], photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = predict("photos").out
    monkeypatch.setattr("clbench.deployment.predicting._VALUES", 1)
    assert predict("photos").out == together


def test_scores_that_are_no_logits_are_said_to_be_none(
    predict: Callable[..., Done], photos: list[str], data: Path, tmp_path: Path
) -> None:
    run = kept_runs.run("ncm", tmp_path / "results", data, keep_networks="last")
    done = predict("photos", network=run.path)
    assert "scores are those of NearestMean and not logits" in done.err and done.code == 0


def test_task_incrementally_an_image_does_not_say_of_which_experience_it_is(
    predict: Callable[..., Done], photos: list[str], data: Path, tmp_path: Path
) -> None:
    run = kept_runs.run("naive", tmp_path / "results", data, setting="task", keep_networks="last")
    done = predict("photos", network=run.path)
    assert done.code == 2 and "can be compared only among the classes of one experience" in done.err
    assert clbench.load_network(run.path)(torch.from_numpy(np.zeros((1, 1, 8, 8), dtype=np.float32))).shape == (1, 10)
