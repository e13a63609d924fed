"""Predictions of a network whose logits are the images' pixels, and that evaluation has no effect on training."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import SmallRun, colours, configured, same, strategy_class
from torch import Tensor, nn

import clbench
from clbench.audit.audit import Audit
from clbench.audit.batch_independence import check_batch_independence
from clbench.base.incremental_setting import Setting
from clbench.data.batches import Images, MappedImages, Scaling
from clbench.errors import UndefinedScores
from clbench.evaluation import test_set
from clbench.networks.network import Network
from clbench.plugins.networks import build
from clbench.system.randomness import randomness_untouched

CPU = torch.device("cpu")
ORDER = (3, 0, 4, 1, 2)  # class id at each position
SIZES = (2, 1, 2)  # experiences: {3, 0}, {4}, {1, 2}


def echo(classes: tuple[int, ...]) -> Network:
    """A network that returns the image's first pixels: the logit of position p is pixel p."""
    network = Network([nn.Flatten()], features=5)
    for count in classes:
        network.head.grow(count, seed=0)
    with torch.no_grad():
        for part in (network.head.old, network.head.new):
            if part is not None:
                part.bias.zero_()
        rows = torch.eye(5)
        old = 0
        if network.head.old is not None:
            old = network.head.old.out_features
            network.head.old.weight.copy_(rows[:old])
        assert network.head.new is not None
        network.head.new.weight.copy_(rows[old : network.head.classes])
    return network


def answered(
    logits: list[list[int]],
    classes: list[int],
    setting: Setting = "class_incremental",
    sizes: tuple[int, ...] = SIZES,
) -> test_set.TestSet:
    """Samples of the given classes (ids) whose pixels are the logits by position."""
    pixels = np.asarray(logits, dtype=np.uint8)[:, None, :, None]  # one row of five pixels
    positions = torch.tensor([ORDER.index(c) for c in classes])
    scaling = Scaling("unit", (0.0,), (1.0,), CPU)
    return test_set.TestSet(Images(pixels, CPU), scaling, positions, ORDER, sizes, "float32", setting)


#         position: 0   1   2   3   4     class id: 3  0  4  1  2
LOGITS = [
    [9, 1, 2, 3, 4],
    [1, 5, 9, 2, 3],
    [8, 7, 1, 2, 9],
    [1, 2, 3, 9, 8],
    [6, 1, 2, 4, 5],
]
CLASSES = [3, 3, 4, 1, 2]


def both_settings(predicted: Any) -> tuple[Any, Any]:
    assert list(predicted) == ["class_incremental", "task_incremental"]
    return predicted["class_incremental"], predicted["task_incremental"]


def test_predictions_are_class_ids_over_all_classes_and_within_the_own_experience() -> None:
    by_class, by_task = both_settings(answered(LOGITS, CLASSES).predict(echo(SIZES)))
    assert by_class.tolist() == [3, 4, 2, 1, 3]
    assert by_task.tolist() == [3, 0, 4, 1, 2]
    assert by_class.dtype == by_task.dtype == np.int16


def test_only_classes_seen_so_far_are_predicted_and_minus_1_for_samples_of_those_not_learned_yet() -> None:
    by_class, by_task = both_settings(answered(LOGITS, CLASSES).predict(echo(SIZES[:2])))
    assert by_class.tolist() == [3, 4, 3, -1, -1]
    assert by_task.tolist() == [3, 0, 4, -1, -1]
    by_class, by_task = both_settings(answered(LOGITS, CLASSES).predict(echo(SIZES[:1])))
    assert by_class.tolist() == [3, 0, -1, -1, -1]
    assert by_task.tolist() == [3, 0, -1, -1, -1]


def test_a_task_incremental_run_has_task_incremental_predictions_only() -> None:
    predicted = answered(LOGITS, CLASSES, "task_incremental").predict(echo(SIZES))
    assert list(predicted) == ["task_incremental"]
    assert predicted["task_incremental"].tolist() == [3, 0, 4, 1, 2]


def test_domain_incrementally_shared_outputs_are_translated_to_the_samples_own_classes() -> None:
    # experiences {3, 0} and {4, 1}; the class 2 makes no third pair and is left out of the samples
    network = Network([nn.Flatten()], features=5)
    network.head.grow(2, seed=0)
    with torch.no_grad():
        network.head.new.weight.copy_(torch.eye(5)[:2])  # type: ignore[union-attr]
        network.head.new.bias.zero_()  # type: ignore[union-attr]
    tested = answered(LOGITS, [3, 0, 4, 1, 1], "domain_incremental", sizes=(2, 2, 1))
    predicted = tested.predict(network)
    assert list(predicted) == ["domain_incremental"]
    # the first two logits decide: 9 > 1, 1 < 5, 8 > 7, 1 < 2, 6 > 1
    assert predicted["domain_incremental"].tolist() == [3, 0, 4, 1, 4]
    predicted = tested.predict(network, learned=2)
    assert predicted["domain_incremental"].tolist() == [3, 0, -1, -1, -1]


def test_a_fixed_head_never_predicts_a_class_not_seen_yet() -> None:
    network = Network([nn.Flatten()], features=5)
    network.head.fix(5, seed=0)
    with torch.no_grad():
        network.head.old.weight.copy_(torch.eye(5))  # type: ignore[union-attr]
        network.head.old.bias.zero_()  # type: ignore[union-attr]
    network.head.grow(2, seed=0)
    by_class, by_task = both_settings(answered(LOGITS, CLASSES).predict(network))
    assert by_class.tolist() == [3, 0, -1, -1, -1] and by_task.tolist() == [3, 0, -1, -1, -1]
    network.head.grow(1, seed=0)
    by_class, _ = both_settings(answered(LOGITS, CLASSES).predict(network))
    assert by_class.tolist() == [3, 4, 3, -1, -1]


def test_samples_keep_their_order_over_several_passes() -> None:
    winners = np.random.default_rng(0).integers(0, 5, 1203)
    by_class, _ = both_settings(answered(np.eye(5)[winners].tolist(), [0] * 1203).predict(echo(SIZES)))
    assert by_class.tolist() == [ORDER[winner] for winner in winners]


class Restless(nn.Module):
    """Passes its input on; draws from every random state and moves a buffer whenever it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        random.random(), np.random.rand(), torch.rand(1)
        self.calls += 1
        return x


def random_states() -> list[Any]:
    return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_weights_buffers_modes_and_random_states_alone(training: bool) -> None:
    trunk = build("cnn", (8, 8, 3), seed=0).blocks
    model = Network([Restless(), *trunk], features=128)
    for count in SIZES:
        model.head.grow(count, seed=count)
    model.freeze([model.blocks[1]])
    model.train(training)
    before, modes, states = copy.deepcopy(model), [module.training for module in model.modules()], random_states()
    samples = colours()
    positions, scaling = torch.from_numpy(samples.y), Scaling("unit", (0.0,) * 3, (1.0,) * 3, CPU)
    test_set.TestSet(Images(samples.x, CPU), scaling, positions, (0, 1, 2, 3, 4), SIZES, "float32").predict(model)
    assert same(model, before)
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert random_states() == states


def test_evaluation_uses_the_running_statistics_of_batch_normalisation() -> None:
    samples, model = colours(), build("cnn", (8, 8, 3), seed=0)
    for count in SIZES:
        model.head.grow(count, seed=count)
    scaling = Scaling("unit", (0.0,) * 3, (1.0,) * 3, CPU)
    model(scaling(torch.from_numpy(samples.x)))  # in training mode, so that the statistics are not the initial ones

    def predict(some: slice) -> list[int]:
        images, positions = Images(samples.x[some], CPU), torch.from_numpy(samples.y[some])
        tested = test_set.TestSet(images, scaling, positions, (0, 1, 2, 3, 4), SIZES, "float32")
        return tested.predict(model)["class_incremental"].tolist()

    assert predict(slice(20)) == [predict(slice(i, i + 1))[0] for i in range(20)]


def test_random_states_are_restored_exactly() -> None:
    states = random_states()
    with randomness_untouched():
        random.random(), np.random.rand(), torch.rand(1)
        torch.manual_seed(3)
    assert random_states() == states


class Drawing(strategy_class("naive")):  # type: ignore[misc]
    """Naive with a loss that depends on the global random states, which evaluation might move."""

    def loss(self, batch: clbench.Batch) -> Tensor:
        return super().loss(batch) * (torch.rand(()) + random.random() + np.random.rand())


def test_evaluating_at_every_batch_changes_nothing_in_training() -> None:
    class Curious(Drawing):
        def loss(self, batch: clbench.Batch) -> Tensor:
            watched.test_set.predict(batch.model)
            return super().loss(batch)

    augmentation = clbench.Augmentation(crop=1, flip=True)
    recipe = clbench.Recipe(
        network="cnn", optimizer="adam", lr=0.01, batch_size=16, epochs=2, augmentation=augmentation
    )
    plain = SmallRun(configured(Drawing), recipe, colours(), SIZES).learn()
    watched = SmallRun(configured(Curious), recipe, colours(), SIZES)
    watched.learn()
    assert all(same(*pair) for pair in zip(watched.models, plain.models, strict=True))


def with_nan(column: int, samples: range) -> test_set.Score:
    """Scores by the network, NaN in a column for the samples whose first pixel is in `samples`."""

    def score(network: Network, x: Tensor) -> Tensor:
        scores = nn.functional.pad(network(x), (0, 5 - network.head.classes))
        scores[[int(pixel * 255 + 0.5) in samples for pixel in x[:, 0, 0, 0]], column] = torch.nan
        return scores

    return score


@pytest.mark.parametrize("setting", ["class_incremental", "task_incremental"])
def test_nan_scores_of_classes_seen_are_an_error_of_their_own_that_counts_the_samples(setting: Setting) -> None:
    tests = answered(LOGITS, CLASSES, setting)
    with pytest.raises(UndefinedScores, match="NaN scores to 2 of 5 test samples"):
        tests.predict(echo(SIZES), with_nan(3, range(6, 9)))


def test_samples_of_every_domain_are_tried_with_and_without_others_in_their_batch() -> None:
    images = np.zeros((40, 1, 5, 1), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = 9, np.arange(40)
    maps = torch.tensor([[0, 1, 2, 3, 4], [2, 1, 0, 3, 4]])  # the second domain is recognized by its first pixel
    positions, scaling = torch.arange(80) % 5, Scaling("unit", (0.0,), (1.0,), CPU)
    tests = test_set.TestSet(MappedImages(images, CPU, maps), scaling, positions, ORDER, SIZES, "float32")

    def score(network: Network, x: Tensor) -> Tensor:
        return network(x) - x[:, 0, 0, 1].mean() * (x[:, 0, 0, :1] == 0)

    audit = Audit([torch.arange(5)], Path("nowhere"))
    check_batch_independence(tests, echo(SIZES), score, seed=0, audit=audit)
    assert "batch mates" in audit.verdict()


def test_scores_of_classes_to_come_may_be_nan() -> None:
    tests, audit = answered(LOGITS, CLASSES), Audit([torch.arange(5)], Path("nowhere"))
    network, score = echo((2, 1)), with_nan(4, range(10))
    by_class, _ = both_settings(tests.predict(network, score))
    assert by_class.tolist() == [3, 4, 3, -1, -1]
    check_batch_independence(tests, network, score, seed=0, audit=audit)
    assert audit.verdict() == "pass"
