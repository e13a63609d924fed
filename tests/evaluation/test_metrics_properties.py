"""Properties of every run: bounds, orders that do not matter, and agreement with a slow, plain reference."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clbench.base.incremental_setting import Setting
from clbench.evaluation.counts import Counts, count
from clbench.evaluation.metrics import chance, derive, intransigence

# The first example imports numpy, and a busy machine is not a failure.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Run:
    """The arguments of `count`."""

    predictions: list[list[int]]
    labels: list[int]
    experience_classes: list[list[int]]
    evaluated: list[bool]
    setting: Setting

    def count(self) -> Counts:
        return count(self.predictions, self.labels, self.experience_classes, self.evaluated, setting=self.setting)


@st.composite
def runs(draw: st.DrawFn, complete: bool = False, perfect: bool = False) -> Run:
    """Up to 4 experiences of up to 3 classes of up to 4 test samples, all mixed; every allowed prediction."""
    setting: Setting = draw(st.sampled_from(["class_incremental", "task_incremental"]))
    brought = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    ids = draw(st.lists(st.integers(0, 300), min_size=sum(brought), max_size=sum(brought), unique=True))
    split = [ids[end - n : end] for n, end in zip(brought, accumulate(brought), strict=True)]
    labels = draw(st.permutations([c for c in ids for _ in range(draw(st.integers(1, 4)))]))
    evaluated = [complete or draw(st.booleans()) for _ in split]

    def prediction(i: int, label: int) -> int:
        seen = [c for own in split[: i + 1] for c in own]
        if label not in seen:
            return -1
        if perfect:
            return label
        own = next(own for own in split if label in own)
        return draw(st.sampled_from(seen if setting == "class_incremental" else own))

    return Run([[prediction(i, n) for n in labels] for i in range(len(split))], labels, split, evaluated, setting)


def counted_plainly(run: Run) -> Counts:
    """Sample by sample, as the definitions read."""
    experiences = range(len(run.experience_classes))
    correct: list[tuple[int, ...] | None] = []
    class_correct: list[tuple[int, ...] | None] = []
    old_as_new: list[int | None] = []
    for i in experiences:
        if not run.evaluated[i]:
            correct.append(None)
            class_correct.append(None)
            old_as_new.append(None)
            continue
        pairs = list(zip(run.predictions[i], run.labels, strict=True))
        seen = run.experience_classes[: i + 1]
        correct.append(tuple(sum(p == n for p, n in pairs if n in own) for own in seen))
        class_correct.append(tuple(sum(p == n == c for p, n in pairs) for own in seen for c in own))
        old = [c for own in seen[:-1] for c in own]
        old_as_new.append(
            sum(n in old and p in seen[-1] for p, n in pairs) if i > 0 and run.setting == "class_incremental" else None
        )
    return Counts(
        correct=tuple(correct),
        total=tuple(sum(n in own for n in run.labels) for own in run.experience_classes),
        class_correct=tuple(class_correct),
        class_total=tuple(run.labels.count(c) for own in run.experience_classes for c in own),
        classes_per_experience=tuple(len(own) for own in run.experience_classes),
        old_as_new=tuple(old_as_new),
    )


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for entry in value:
            yield from numbers(entry)
    elif value is not None:
        yield value


@pytest.mark.slow
@untimed
@given(runs())
def test_count_agrees_with_counting_sample_by_sample(run: Run):
    assert run.count() == counted_plainly(run)


@pytest.mark.slow
@untimed
@given(runs(), st.randoms(use_true_random=False))
def test_the_order_of_test_samples_does_not_matter(run: Run, chooser: random.Random):
    order = list(range(len(run.labels)))
    chooser.shuffle(order)
    shuffled = Run(
        [[row[n] for n in order] for row in run.predictions],
        [run.labels[n] for n in order],
        run.experience_classes,
        run.evaluated,
        run.setting,
    )
    assert shuffled.count() == run.count()


@pytest.mark.slow
@untimed
@given(runs())
def test_counts_and_metrics_survive_json_and_hold_no_nan(run: Run):
    counts = run.count()
    assert Counts.from_json(json.loads(json.dumps(counts.to_json()))) == counts
    derived = derive(counts)
    assert json.loads(json.dumps(derived, allow_nan=False)) == derived


@pytest.mark.slow
@untimed
@given(runs())
def test_accuracies_are_shares_and_differences_lie_within_one(run: Run):
    for name, value in derive(run.count()).items():
        low = -1 if name in ("forgetting", "forgetting_after", "backward_transfer") else 0
        assert all(low <= number <= 1 for number in numbers(value)), name


@pytest.mark.slow
@untimed
@given(runs(complete=True))
def test_forgetting_is_at_least_the_backward_transfer_lost(run: Run):
    derived = derive(run.count())
    if len(run.evaluated) == 1:
        assert derived["forgetting"] is None and derived["backward_transfer"] is None
    else:
        assert derived["forgetting"] >= -derived["backward_transfer"]  # best earlier >= just-learned


@pytest.mark.slow
@untimed
@given(runs(complete=True))
def test_accuracy_on_seen_classes_lies_between_that_on_old_and_on_new_ones(run: Run):
    derived = derive(run.count())
    for i in range(1, len(run.evaluated)):
        old, new = derived["old_accuracy"][i], derived["new_accuracy"][i]
        assert min(old, new) <= derived["accuracy_seen"][i] <= max(old, new)


@pytest.mark.slow
@untimed
@given(runs())
def test_old_samples_are_right_or_taken_for_new_or_for_other_old_classes(run: Run):
    derived = derive(run.count())
    for old, bias in zip(derived["old_accuracy"], derived["recency_bias"], strict=True):
        assert bias is None or old + bias <= 1 + 1e-12


@untimed
@given(runs(complete=True, perfect=True))
def test_perfect_predictions_give_one_and_forget_nothing(run: Run):
    counts = run.count()
    zero = {"forgetting", "forgetting_after", "backward_transfer", "recency_bias"}
    for name, value in derive(counts).items():
        assert set(numbers(value)) <= {0.0 if name in zero else 1.0}, name
    assert derive(counts)["accuracy_seen"] == [1.0] * len(run.evaluated)
    assert intransigence(counts, counts) == [0.0] * len(run.evaluated)


@pytest.mark.slow
@untimed
@given(runs(complete=True))
def test_metrics_after_an_experience_do_not_depend_on_later_ones(run: Run):
    counts = run.count()
    first = len(run.evaluated) - 1
    if first == 0:
        return
    classes = sum(counts.classes_per_experience[:first])
    shorter = Counts(
        counts.correct[:first],
        counts.total[:first],
        counts.class_correct[:first],
        counts.class_total[:classes],
        counts.classes_per_experience[:first],
        counts.old_as_new[:first],
    )
    before, now = derive(shorter), derive(counts)
    for name in ("accuracy_seen", "old_accuracy", "new_accuracy", "forgetting_after", "recency_bias"):
        assert before[name] == now[name][:first]


@untimed
@given(runs())
def test_chance_falls_with_the_classes_and_is_higher_when_the_experience_is_told(run: Run):
    counts = counted_plainly(run)
    by_setting = chance(counts.classes_per_experience, counts.total)
    untold, told = by_setting["class_incremental"], by_setting["task_incremental"]
    assert untold == sorted(untold, reverse=True)
    assert all(t >= u and 0 < u <= 1 and t <= 1 for t, u in zip(told, untold, strict=True))
    assert told[0] == untold[0]
