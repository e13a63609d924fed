"""Our streams as Avalanche's benchmarks: the samples, labels and images that the loop trains on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_runs import SmallRun, builtin, colours

from clbench import Recipe

pytestmark = pytest.mark.xdist_group("avalanche")

ORDER = (3, 0, 4, 1, 2)
SGD = Recipe(network="mlp", optimizer="sgd", lr=0.1, batch_size=16, epochs=3)


def small(sizes: tuple[int, ...]) -> SmallRun:
    return SmallRun(builtin("naive"), SGD, colours(), sizes, order=ORDER)


def avalanche_stream(run: SmallRun) -> Any:
    from clbench.avalanche.benchmark import LabelledRows, class_incremental  # takes seconds

    samples = LabelledRows(run.data.rows, run.data.labels, run.data.scaled)
    return class_incremental(run.sizes, train=samples).train_stream


@pytest.mark.parametrize("sizes", [(2, 1, 2), (1, 1, 1, 1, 1), (5,), (3, 2)])
def test_avalanches_stream_has_every_sample_once_with_our_positions_as_labels(sizes: tuple[int, ...]) -> None:
    run = small(sizes)
    everything = []
    assert len(avalanche_stream(run)) == len(sizes)
    for index, experience in enumerate(avalanche_stream(run)):
        rows = run.data.rows[index]
        assert rows.tolist() == run.rows(index)
        assert sorted(experience.dataset.targets) == sorted(run.positions[rows].tolist())
        assert sorted(experience.classes_in_this_experience) == sorted(set(run.positions[rows].tolist()))
        everything += rows.tolist()
    assert sorted(everything) == list(range(100))


def test_avalanches_samples_are_the_images_that_the_loop_trains_on() -> None:
    run = small((2, 1, 2))
    for index, experience in enumerate(avalanche_stream(run)):
        rows = run.trainer.data.rows[index]
        for position in (0, 7, len(rows) - 1):
            image, label, _ = experience.dataset[position]
            row = int(rows[position])
            assert label == run.positions[row]
            assert torch.equal(image, run.scaling(run.images.read(torch.tensor([row])))[0])
