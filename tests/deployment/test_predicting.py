"""`clbench predict`: what is in images, in which form, and what of a folder cannot be read."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
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
from torch import nn

import clbench
from clbench.cli import program
from clbench.data.datasets import open_dataset
from clbench.deployment import predicting
from clbench.deployment.predicting import image_files
from clbench.deployment.trained_network import TrainedNetwork
from clbench.errors import UsageError
from clbench.results.network_record import ClassifierRecord, ImageShape, InputRecord, NetworkRecord, Versions
from clbench.results.run_spec import NetworkSpec
from clbench.results.stored_run import StoredRun


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


def one_pixel(first: float) -> TrainedNetwork:
    """A network of one grey pixel x in 0..1 with the logits x * `first` and 0."""
    layer = nn.Linear(1, 2)
    layer.load_state_dict({"weight": torch.tensor([[first], [0.0]]), "bias": torch.zeros(2)})
    record = NetworkRecord(
        origin=None,
        network=NetworkSpec(name="none"),
        network_seed=0,
        setting="class_incremental",
        classes=("light", "dark"),
        experiences=(2,),
        input=InputRecord(
            image=ImageShape(height=1, width=1, channels=1),
            padding=0,
            channels=1,
            mean=(0.0,),
            std=(1.0,),
            height=1,
            width=1,
            resizing=None,
        ),
        classifier=ClassifierRecord(name="Linear"),
        weights_sha256="0" * 64,
        probe=(),
        versions=Versions(clbench="0", engine=1, torch="0"),
    )
    return TrainedNetwork(nn.Flatten(), layer, record).eval()


def test_the_highest_score_says_whether_an_image_shows_none_of_the_classes(tmp_path: Path) -> None:
    for name, value in (("white", 255), ("black", 0)):
        PIL.Image.new("L", (1, 1), value).save(tmp_path / f"{name}.png")
    files = [tmp_path / "white.png", tmp_path / "black.png"]
    white, black = predicting.predict(one_pixel(math.log(3)), files, top=2)
    # softmax(ln 3, 0) = (3, 1) / 4
    assert [each.name for each in white.classes] == ["light", "dark"]
    assert [value for each in white.classes for value in each[1:]] == pytest.approx([0.75, math.log(3), 0.25, 0])
    assert [each.probability for each in black.classes] == [0.5, 0.5]
    assert [each.is_none(0.1) for each in (white, black)] == [False, True]
    assert [each.is_none(1.2) for each in (white, black)] == [True, True]
    assert not black.is_none(0.0)  # only below
    assert not black.is_none(None)


def highest_scores(kept: StoredRun, data: Path) -> list[float]:
    """The highest score of each of the six images."""
    network = clbench.load_network(kept.path)
    with torch.no_grad():
        x = torch.stack([network.transform(image) for image in open_dataset("digits", data).x_test[:6]])
        found: list[float] = network(x).amax(dim=1).tolist()
    return found


@pytest.fixture
def between(kept: StoredRun, data: Path) -> tuple[float, list[bool]]:
    """A score that three of the six images do not reach, and which they are."""
    highest = highest_scores(kept, data)
    middle = sum(sorted(highest)[2:4]) / 2
    return middle, [score < middle for score in highest]


def test_below_a_score_the_answer_is_none_of_these_and_the_likeliest_class_follows(
    predict: Callable[..., Done], photos: list[str], kept: StoredRun, data: Path, between: tuple[float, list[bool]]
) -> None:
    below, is_none = between
    plain = predict("photos").out.splitlines()
    done = predict("photos", "--none-below", str(below))
    lines = zip(plain, is_none, highest_scores(kept, data), strict=True)
    assert done.out.splitlines() == [
        line.replace(": ", f": none of these (score {score:.4g}); ") if none else line for line, none, score in lines
    ]
    assert (done.code, sum(is_none)) == (0, 3)


def test_in_json_the_class_is_then_null(
    predict: Callable[..., Done], photos: list[str], kept: StoredRun, data: Path, between: tuple[float, list[bool]]
) -> None:
    below, is_none = between
    plain = json.loads(predict("photos", "--json", "--top", "2").out)
    rows = json.loads(predict("photos", "--json", "--top", "2", "--none-below", str(below)).out)
    assert [row["class"] is None for row in rows] == is_none
    assert all(row["class"] in (None, row["classes"][0]["class"]) and row["none_below"] == below for row in rows)
    assert [row["classes"] for row in rows] == [row["classes"] for row in plain]
    assert [row["classes"][0]["score"] for row in rows] == pytest.approx(highest_scores(kept, data), rel=1e-5)
    assert not {"class", "none_below"} & set(plain[0])


def test_in_csv_the_first_row_is_then_without_a_class(
    predict: Callable[..., Done], photos: list[str], kept: StoredRun, data: Path, between: tuple[float, list[bool]]
) -> None:
    below, is_none = between
    done = predict("photos", "--csv", "--top", "2", "--none-below", str(below))
    rows = list(csv.DictReader(io.StringIO(done.out)))
    for name, none, score in zip(photos, is_none, highest_scores(kept, data), strict=True):
        own = [row for row in rows if row["image"] == name]
        assert [row["rank"] for row in own] == [str(rank + 1) for rank in range(3 if none else 2)]
        assert [row["class"] == "" for row in own] == ([True, False, False] if none else [False, False])
        assert float(own[-2]["score"]) == pytest.approx(score, rel=1e-5)


def test_a_negative_score_is_a_number_in_csv_and_on_the_command_line(
    predict: Callable[..., Done], photos: list[str]
) -> None:
    rows = list(csv.DictReader(io.StringIO(predict("photos", "--csv", "--top", "10", "--none-below", "-99").out)))
    assert all(row["class"] for row in rows)
    assert min(float(row["score"]) for row in rows) < 0


def test_the_calibrated_score_is_used_and_said_with_what_it_rests_on(
    predict: Callable[..., Done],
    photos: list[str],
    kept: StoredRun,
    tmp_path: Path,
    between: tuple[float, list[bool]],
) -> None:
    below, is_none = between
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(kept.path / "network.safetensors", model)
    record = json.loads((kept.path / "network.json").read_text())
    record["none_below"] = {"score": below, "images": 40, "classes": 3}
    (model / "network.json").write_text(json.dumps(record))
    done = predict("photos", "--none", network=model)
    assert ["none of these" in line for line in done.out.splitlines()] == is_none
    assert done.err == (
        f"None of these: below the score {below:.4g}, which 95 % of 40 recognized test images reach, of 3 of the 10 "
        "classes\n"
    )
    assert clbench.load_network(model).none_below == below


def test_without_a_calibrated_score_it_is_said_how_to_give_one(
    predict: Callable[..., Done], photos: list[str], kept: StoredRun
) -> None:
    done = predict("photos", "--none")
    assert done.code == 2 and "this network has no calibrated score" in done.err
    assert "--none-below SCORE" in " ".join(done.err.split())
    assert clbench.load_network(kept.path).none_below is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--none", "--none-below", "1"), "--none and --none-below are both given"),
        (("--none-below", "nan"), "--none-below must be a number (got nan)"),
    ],
)
def test_what_says_no_score_is_refused(
    options: tuple[str, ...], problem: str, predict: Callable[..., Done], photos: list[str]
) -> None:
    done = predict("photos", *options)
    assert done.code == 2 and problem in done.err


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
    assert done.code == 1 and "it is not an image (JPEG, PNG" in done.err


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


def test_an_answer_is_one_line_whatever_is_in_the_image_s_name(predict: Callable[..., Done], photos: list[str]) -> None:
    shutil.copy(photos[0], "two\nlines.png")
    assert predict("two\nlines.png").out.count("\n") == 1


@pytest.mark.slow
def test_scores_that_are_no_logits_are_said_to_be_none(
    predict: Callable[..., Done], photos: list[str], data: Path, tmp_path: Path
) -> None:
    run = kept_runs.run("ncm", tmp_path / "results", data, keep_networks="last")
    done = predict("photos", network=run.path)
    assert "scores are those of NearestMean, not logits" in done.err and done.code == 0
    assert "(score " in done.out and "%" not in done.out
    (first, *_) = csv.DictReader(io.StringIO(predict("photos", "--csv", network=run.path).out))
    assert first["probability"] == ""
    (likeliest,) = json.loads(predict("photos", "--json", network=run.path).out)[0]["classes"]
    assert likeliest == {
        "class": first["class"],
        "probability": None,
        "score": pytest.approx(float(first["score"]), 1e-5),
    }


@pytest.mark.slow
def test_task_incrementally_an_image_does_not_say_of_which_experience_it_is(
    predict: Callable[..., Done], photos: list[str], data: Path, tmp_path: Path
) -> None:
    run = kept_runs.run("naive", tmp_path / "results", data, setting="task", keep_networks="last")
    done = predict("photos", network=run.path)
    assert done.code == 2 and "can be compared only among the classes of one experience" in done.err
    assert clbench.load_network(run.path)(torch.from_numpy(np.zeros((1, 1, 8, 8), dtype=np.float32))).shape == (1, 10)
