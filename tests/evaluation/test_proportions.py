"""Intervals of shares: Wilson's for one class, and for a mean over classes one that its samples support."""

import itertools
from collections.abc import Sequence

import pytest
from scipy.stats import binom, binomtest

from clbench.evaluation.proportions import mean_proportion, proportion


@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (0, 7), (9, 10), (10, 10), (123, 400), (39999, 40000)])
def test_a_share_has_wilsons_interval_and_so_has_the_mean_over_one_class(count: int, total: int) -> None:
    expected = binomtest(count, total).proportion_ci(0.95, method="wilson")
    for found in (proportion(count, total), mean_proportion([(count, total)])):
        assert found and found.value == count / total
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_is_said_without_samples() -> None:
    assert proportion(0, 0) is mean_proportion([]) is mean_proportion([(0, 0)]) is None


def test_classes_without_samples_are_in_no_mean() -> None:
    assert mean_proportion([(9, 10), (0, 0), (7, 10)]) == mean_proportion([(9, 10), (7, 10)])


def test_a_mean_over_two_classes_is_the_one_worked_by_hand() -> None:
    # Shares 1 and 0.5, mean 0.75; drawn to it (10 + 1.5) / 12 = 0.95833 and 6.5 / 12 = 0.54167, with the variances
    # 0.0039931 and 0.0248264, a quarter of whose sum is 0.0072049; n = 0.1875 / 0.0072049 = 26.024, z² / n = 0.14761.
    # (0.75 + 0.14761 / 2 ± √(0.14761 (0.1875 + 0.14761 / 4))) / 1.14761
    found = mean_proportion([(10, 10), (5, 10)])
    assert found and found.value == 0.75
    assert (found.low, found.high) == pytest.approx((0.55925, 0.87646), abs=1e-4)


def test_a_mean_weighs_classes_and_not_samples() -> None:
    found = mean_proportion([(1, 1), (0, 99)])
    assert found and found.value == 0.5


def test_where_all_is_right_the_interval_is_that_of_as_many_samples() -> None:
    assert mean_proportion([(5, 5)] * 4) == proportion(20, 20)


def test_classes_that_are_all_right_or_all_wrong_leave_doubt() -> None:
    found = mean_proportion([(3, 3), (0, 3)])
    assert found and found.low < 0.3 and found.high > 0.7


@pytest.mark.parametrize(
    ("truth", "total"), [((0.9, 0.8, 0.6), 5), ((0.97, 0.95, 0.9), 10), ((0.5, 0.5, 0.5), 3), ((0.99, 0.2), 20)]
)
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says(truth: Sequence[float], total: int) -> None:
    """Exactly: the sum of the probabilities of all outcomes whose interval covers the mean."""
    mean = sum(truth) / len(truth)
    covered = 0.0
    for counts in itertools.product(range(total + 1), repeat=len(truth)):
        found = mean_proportion([(count, total) for count in counts])
        assert found
        if found.low <= mean <= found.high:
            probability = 1.0
            for count, share in zip(counts, truth, strict=True):
                probability *= float(binom.pmf(count, total, share))
            covered += probability
    assert 0.92 < covered < 0.99
