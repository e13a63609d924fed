"""Curves within experiences and images per class as runs store them: read back, and refused if they do not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stored_runs import publish

from clbench.evaluation.curve import Curve
from clbench.results import manifests
from clbench.results.counts_frame import frame
from clbench.results.stored_run import StoredRun, Unreadable
from clbench.results.stored_runs import read

# Two experiences of 2 classes with 10 test samples each. The end: 20 of 20, then 10 of 20 old ones and 20 of 20 new.
CURVE = Curve((2, 4, 7, 9), (0, 0, 1, 1), ((8,), (16,), (4, 6), (8, 18)))


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    return publish(tmp_path, "er", old=0.5, curve=CURVE, steps=(5, 6))


def forged(run: StoredRun, change: Callable[[Any], Any]) -> StoredRun | Unreadable:
    value = json.loads((run.path / "result.json").read_bytes())
    change(value)
    (run.path / "result.json").write_text(json.dumps(value))
    files = {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != manifests.MANIFEST}
    (run.path / manifests.MANIFEST).write_bytes(manifests.of(files))
    return read(run.path)


def test_a_curve_and_its_metrics_come_back_with_the_run(run: StoredRun) -> None:
    assert run.curve() == CURVE and run.facts.ends == (5, 11)
    # 8/20, 16/20, 20/20 | 10/40, 26/40, 30/40
    anytime = (0.4 + 0.8 + 1 + 0.25 + 0.65 + 0.75) / 6
    assert run.metric("anytime_accuracy") == run.final("anytime_accuracy") == pytest.approx(anytime)
    assert run.final("minimum_accuracy") == 0.2
    assert run.final("worst_case_accuracy") == pytest.approx(0.5 * 1 + 0.5 * 0.2)
    assert run.final("stability_gap") == pytest.approx(0.8)
    assert run.metric("stability_gaps", "task_incremental") == [None, pytest.approx(0.8)]
    assert run.result.metrics["class_incremental"]["minimum_accuracy"] == 0.2


def test_a_run_without_a_curve_has_none_in_its_files_and_no_metric_of_it(tmp_path: Path) -> None:
    run = publish(tmp_path)
    stored = json.loads((run.path / "result.json").read_bytes())
    assert not {"curves", "training_images"} & set(stored)
    assert "anytime_accuracy" not in stored["metrics"]["class_incremental"]
    assert run.curve() is None and run.metric("anytime_accuracy") is None and run.final("stability_gap") is None


def _set(*path: Any, value: Any) -> Callable[[Any], None]:
    def change(result: Any) -> None:
        for key in path[:-1]:
            result = result[key]
        result[path[-1]] = value

    return change


POINTS = ("curves", "class_incremental")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_set("metrics", "class_incremental", "minimum_accuracy", value=0.9), "metrics do not follow"),
        (_set(*POINTS, "correct", 1, 0, value=15), "metrics do not follow"),
        (_set(*POINTS, "correct", 1, 0, value=21), "there are 20 test samples"),
        (_set(*POINTS, "steps", value=[2, 5, 7, 9]), "step 5 of the curve is not within experience 0"),
        (_set(*POINTS, "steps", value=[2, 4, 7, 11]), "step 11 of the curve is not within experience 1"),
        (_set(*POINTS, "steps", value=[2, 4, 7]), "4 entries for 3 points"),
        (_set("curves", value={}), "metrics do not follow"),
        (_set("experiences", value=[]), "there is a curve, but not a result for each experience"),
        (lambda result: result["curves"].pop("task_incremental"), "curves are not for the settings"),
        (_set("training_images", value=[1, 2, 3]), "training images are not for as many classes"),
    ],
)
def test_a_curve_that_does_not_fit_the_run_is_refused(run: StoredRun, change: Any, problem: str) -> None:
    found = forged(run, change)
    assert isinstance(found, Unreadable) and problem in found.problem


def test_the_frame_of_counts_has_no_rows_on_an_experience_that_brings_no_class(tmp_path: Path) -> None:
    table = frame([publish(tmp_path, sizes=(2, 0, 2))])
    read_in = table[table["setting"] == "class_incremental"]
    assert list(zip(read_in["after"], read_in["on"], strict=True)) == [(0, 0), (1, 0), (2, 0), (2, 2)]
    assert table["accuracy"].notna().all()
