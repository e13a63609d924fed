"""Accuracy on domains before they are learned, and forward transfer, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clbench
from clbench.evaluation.counts import Counts
from clbench.evaluation.forward_transfer import Ahead, count_ahead, forward_transfer
from clbench.results import manifests
from clbench.results.stored_run import StoredRun, Unreadable
from clbench.results.stored_runs import read

THREE = Counts(
    correct=((4,), (3, 4), (2, 3, 4)),
    total=(4, 4, 4),
    class_correct=((2, 2), (2, 1, 2, 2), (1, 1, 2, 1, 2, 2)),
    class_total=(2,) * 6,
    classes_per_experience=(2, 2, 2),
    old_as_new=(None, None, None),
)


def test_forward_transfer_is_what_earlier_experiences_add_to_the_initial_weights() -> None:
    # Experience 1: 3 of 4 right before it is learned, 2 with the initial weights; experience 2: 1 and 2 of 4.
    assert forward_transfer(THREE, Ahead((1, 2, 2), (3, 1, None))) == (1 / 4 - 1 / 4) / 2
    assert forward_transfer(THREE, Ahead((0, 0, 2), (3, 4, None))) == (3 / 4 + 2 / 4) / 2
    assert forward_transfer(THREE, Ahead((0, 0, 0), (3, None, None))) is None


def test_domains_ahead_are_counted_sample_by_sample() -> None:
    labels = [0, 1, 2, 3, 4, 5]
    domains = [[0, 1], [2, 3], [4, 5]]
    after = [[0, 1, 2, 2, 4, 5], [0, 0, 2, 3, 5, 5], [0, 1, 2, 3, 4, 5]]
    untrained = [0, 0, 3, 3, 4, 4]
    # After experience 0 one of the two samples of experience 1 is right; after 1 one of experience 2.
    assert count_ahead(after, untrained, labels, domains, [True] * 3) == Ahead((1, 1, 1), (1, 1, None))
    assert count_ahead(after, untrained, labels, domains, [False, True, True]) == Ahead((1, 1, 1), (None, 1, None))
    with pytest.raises(ValueError, match="a prediction for experience 1 is not a class of it"):
        count_ahead([[0, 1, -1, -1, -1, -1]] * 3, untrained, labels, domains, [True] * 3)


def rotated(tmp_path: Path, data: Path, angles: str) -> StoredRun:
    options: dict[str, Any] = {"device": "cpu", "epochs": 1, "out": tmp_path / "results", "data": data}
    run: StoredRun = clbench.run(
        "naive", "splitdigits", stream="rotated", setting="domain", set={"stream.angles": angles}, **options
    )[0]
    return run


@pytest.mark.slow
def test_a_run_on_domains_has_its_forward_transfer_and_one_on_classes_has_none(tmp_path: Path, data: Path) -> None:
    run = rotated(tmp_path, data, "0,10,20")
    with np.load(run.path / "predictions.npz") as arrays:
        labels, untrained, after = (arrays[name] for name in ("labels", "untrained", "domain_incremental"))
    own = [labels // 10 == domain for domain in range(3)]
    gains = [
        np.mean(after[j - 1][own[j]] == labels[own[j]]) - np.mean(untrained[own[j]] == labels[own[j]]) for j in (1, 2)
    ]
    assert run.metric("forward_transfer") == pytest.approx(np.mean(gains), abs=1e-12)
    assert run.metric("forward_transfer") > 0.3  # ten degrees more are not much
    assert run.result.metrics["domain_incremental"]["forward_transfer"] == run.metric("forward_transfer")
    classes = clbench.run("naive", "splitdigits", epochs=1, device="cpu", out=tmp_path / "results", data=data)[0]
    assert classes.metric("forward_transfer") is None
    assert b"ahead" not in (classes.path / "result.json").read_bytes()


def test_a_forward_transfer_that_does_not_follow_from_the_predictions_is_an_error(tmp_path: Path, data: Path) -> None:
    run = rotated(tmp_path, data, "0,10")
    said = json.loads((run.path / "result.json").read_text())
    said["ahead"]["following"][0] += 1
    (run.path / "result.json").write_text(json.dumps(said))
    files = {path.name: path.read_bytes() for path in run.path.iterdir() if path.name != manifests.MANIFEST}
    (run.path / manifests.MANIFEST).write_bytes(manifests.of(files))
    found = read(run.path)
    assert isinstance(found, Unreadable)
    assert "domains before they were learned" in found.problem
