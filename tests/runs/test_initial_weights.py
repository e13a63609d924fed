"""Weights that a strategy sets in `start` are those that train."""

from __future__ import annotations

from pathlib import Path

import pytest

import clbench

ZEROS = """
import torch
import clbench


class Zeros(clbench.Strategy):
    def start(self, model):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()

    FIRST

    def loss(self, batch):
        return batch.cross_entropy()
"""


@pytest.mark.slow
def test_a_network_that_starts_with_zeros_never_learns(tmp_path: Path, data: Path) -> None:
    """With all weights 0, ReLU units are dead and their gradients are 0: only the head's biases move."""
    path = tmp_path / "zeros.py"
    path.write_text(ZEROS.replace("FIRST", ""))
    options = {"epochs": 1, "device": "cpu", "data": data, "out": tmp_path / "out"}
    zeros, naive = clbench.run([str(path), "naive"], "splitdigits", **options)
    assert zeros.metric("final_accuracy") < 0.15 and naive.metric("final_accuracy") > 0.15
    hashes = [[each.weights_sha256 for each in run.result.experiences] for run in (zeros, naive)]
    assert hashes[0][0] != hashes[1][0]


@pytest.mark.slow
def test_a_first_experience_is_not_shared_by_strategies_that_start_from_other_weights(
    tmp_path: Path, data: Path
) -> None:
    path = tmp_path / "zeros.py"
    path.write_text(ZEROS.replace("FIRST", 'def first_loss(self): return "seen"'))
    options = {"epochs": 1, "device": "cpu", "data": data}
    both = clbench.run(["lwf", str(path)], "splitdigits", out=tmp_path / "both", **options)
    alone = clbench.run(str(path), "splitdigits", out=tmp_path / "alone", **options)
    assert both[1].result == alone[0].result
    assert not both[1].costs.experiences[0].shared
