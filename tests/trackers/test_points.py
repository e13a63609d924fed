"""Which steps become points, and which metrics are sent."""

from __future__ import annotations

import pytest

from clbench.base.events import StepsTaken
from clbench.evaluation import metrics
from clbench.evaluation.counts import Counts
from clbench.trackers.points import MOST_POINTS, Points


def taken(first: int, losses: list[float], of: int, experience: int = 0) -> StepsTaken:
    rates = [0.5 / (first + index) for index in range(len(losses))]
    return StepsTaken("run", experience, 0, first + len(losses) - 1, of, losses, rates, 100.0)


def test_every_step_of_a_short_experience_is_a_point() -> None:
    points = Points()
    found = [*points.add(taken(1, [3.0, 2.0], of=3)), *points.add(taken(3, [1.0], of=3)), *points.rest()]
    assert [(step, values["training/loss"], values["training/learning_rate"]) for step, values in found] == [
        (1, 3.0, 0.5),
        (2, 2.0, 0.25),
        (3, 1.0, 0.5 / 3),
    ]


def test_a_point_of_a_long_experience_is_the_mean_loss_since_the_point_before() -> None:
    steps = 2 * MOST_POINTS + 1  # every third step is a point, and what is left at the end
    losses = [float(step) for step in range(101, 101 + steps)]
    points = Points()
    found = []
    for first in range(0, steps, 50):
        found += points.add(taken(101 + first, losses[first : first + 50], of=steps, experience=2))
    found += points.rest()
    assert [step for step, _ in found] == [*range(103, 101 + steps, 3), 100 + steps]
    assert len(found) <= MOST_POINTS
    assert [values["training/loss"] for _, values in found[:2]] == [102.0, 105.0]
    assert found[-1][1]["training/loss"] == (losses[-2] + losses[-1]) / 2
    assert {values["training/experience"] for _, values in found} == {2}


def test_each_experience_is_thinned_out_from_its_own_first_step() -> None:
    points = Points()
    found = [*points.add(taken(1, [1.0], of=3 * MOST_POINTS)), *points.rest()]
    found += points.add(taken(2, [2.0, 4.0, 6.0], of=3 * MOST_POINTS, experience=1))
    assert [(step, values["training/loss"]) for step, values in found] == [(1, 1.0), (4, 4.0)]


def test_the_newest_values_of_metrics_by_hand() -> None:
    # Two experiences of two classes, 10 test samples a class; after the second, 5 of 20 old and 18 of 20 new are right.
    counts = Counts(
        correct=((16,), (5, 18)),
        total=(20, 20),
        class_correct=((8, 8), (5, 0, 9, 9)),
        class_total=(10, 10, 10, 10),
        classes_per_experience=(2, 2),
        old_as_new=(None, 12),
    )
    newest = metrics.newest(metrics.derive(counts))
    by_hand = {
        "accuracy_matrix/0": 0.25,
        "accuracy_matrix/1": 0.9,
        "old_accuracy": 0.25,
        "new_accuracy": 0.9,
        "accuracy_seen": 23 / 40,
        "final_accuracy": 23 / 40,
        "average_incremental_accuracy": (0.8 + 23 / 40) / 2,
        "forgetting": 0.55,
        "backward_transfer": -0.55,
        "recency_bias": 12 / 20,
        "learning_accuracy": 0.85,
    }
    assert {name: newest[name] for name in by_hand} == pytest.approx(by_hand)
    assert not any(name.startswith("per_class") for name in newest)


def test_what_is_undefined_is_left_out() -> None:
    counts = Counts(((16,),), (20,), ((8, 8),), (10, 10), (2,), (None,))
    newest = metrics.newest(metrics.derive(counts))
    assert "new_accuracy" in newest
    assert not {"old_accuracy", "forgetting", "backward_transfer", "recency_bias"} & set(newest)
