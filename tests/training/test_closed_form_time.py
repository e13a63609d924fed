"""Users are told in advance how long slow closed forms take."""

from __future__ import annotations

import pytest
import torch
from small_runs import SmallRun, builtin, colours
from torch import Tensor, nn

import clbench
from clbench.base.config import NoConfig
from clbench.base.events import Event, Note
from clbench.base.experience import Experience
from clbench.base.recipe import Recipe
from clbench.networks.classifiers import LinearScores
from clbench.training.closed_form_time import ClosedFormWatch, closed_form_time

RECIPE = Recipe(network="mlp", optimizer="sgd", lr=0.05, batch_size=16, epochs=1)
CPU = torch.device("cpu")


class Long(clbench.FeatureStrategy):
    """Claims that each image takes as many operations as a fast machine does in an hour."""

    def learn(self, features: Tensor, labels: Tensor, experience: Experience) -> nn.Module:
        return LinearScores(torch.zeros(experience.seen_classes, features.shape[1]))

    def operations(self, images: int, classes: int, features: int) -> float:
        return 1e16 * images


def notes(strategy: clbench.Strategy) -> list[str]:
    said: list[Event] = []
    run = SmallRun(strategy, RECIPE, colours(classes=6), (2, 2, 2))
    run.trainer.closed_forms = ClosedFormWatch("small", said.append, [len(rows) for rows in run.data.rows], (2, 2, 2))
    strategy.start(run.trainer.model)
    run.learn()
    return [event.text for event in said if isinstance(event, Note)]


def test_a_long_closed_form_is_announced_once_for_all_experiences() -> None:
    (said,) = notes(Long(NoConfig()))
    assert "its closed form takes about " in said and said.endswith(" hours")


def test_a_short_one_is_not_announced() -> None:
    assert notes(builtin("acil", expansion=40)) == []


def test_the_time_is_that_of_all_strategies_and_of_all_experiences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clbench.training.closed_form_time._operations_per_second", lambda device, threads: 1e16)
    strategies = [Long(NoConfig()), builtin("naive"), Long(NoConfig())]
    assert closed_form_time(strategies, [(30, 2), (10, 2)], 10, CPU) == "about 80 seconds"
    assert closed_form_time(strategies, [(9, 2)], 10, CPU) is None


def test_estimating_changes_no_random_number() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    closed_form_time([Long(NoConfig())], [(1000, 2)], 10, CPU)
    assert torch.equal(torch.rand(3), expected)
