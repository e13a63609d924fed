"""Intervals, tests and means over scenarios: worked by hand, and held against the distributions they assume."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from clbench.comparison import statistics

Values = st.lists(st.integers(-50, 50).map(lambda n: n / 50), min_size=2, max_size=8)


# -- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_of_many_intervals_over_normal_values_95_in_100_hold_the_mean(seeds: int) -> None:
    draws, mean = 2000, 0.6
    covered = 0
    for values in np.random.default_rng(seeds).normal(mean, 0.1, (draws, seeds)).tolist():
        made = statistics.estimate(values)
        assert made and made.half_width is not None
        covered += abs(made.mean - mean) <= made.half_width
    # Four standard errors of a share of 0.95 in 2000 draws are 0.0195.
    assert covered / draws == pytest.approx(0.95, abs=0.0195)


# -- the sign-flip test -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # only +++ and --- are as far from 0
        ([1.0, -2.0, 3.0], 6 / 8),  # of the sums 6, 4, 2, 0, 0, -2, -4 and -6 six are at least 2 from 0
        ([0.5, 0.5, 0.5, 0.5, -0.5], 12 / 32),  # one or no sign of the five is other than the rest: 2 · (1 + 5)
        ([0.0, 0.0, 0.0], 1.0),
    ],
)
def test_the_p_of_a_few_differences_is_the_share_of_sign_patterns_counted_by_hand(
    differences: list[float], p: float
) -> None:
    assert statistics.sign_flip_p(differences) == pytest.approx(p)


@given(Values)
def test_the_p_is_the_share_of_all_sign_patterns(differences: list[float]) -> None:
    flips = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    sums = np.abs(flips @ np.array(differences))
    share = float(np.mean(sums >= abs(sum(differences)) - 1e-9))
    assert statistics.sign_flip_p(differences) == pytest.approx(share)


def test_under_the_null_the_test_has_the_size_that_it_claims() -> None:
    # Were every sign as likely as its opposite, the 64 patterns of six differences would be equally likely.
    sizes = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32]
    patterns = itertools.product((1, -1), repeat=len(sizes))
    ps = [statistics.sign_flip_p([s * size for s, size in zip(signs, sizes, strict=True)]) for signs in patterns]
    for level in (0.05, 0.1, 0.25, 0.5):
        # These sizes give every pattern a sum of its own, so p takes the values 2/64, 4/64, …
        assert np.mean([p <= level + 1e-12 for p in ps]) == pytest.approx(math.floor(level * 32) / 32)


def test_many_seeds_are_tested_by_a_sample_of_patterns_that_is_always_the_same() -> None:
    differences = np.random.default_rng(1).normal(0.01, 0.05, 24).tolist()
    p = statistics.sign_flip_p(differences)
    assert p == statistics.sign_flip_p(differences)
    assert p == pytest.approx(scipy.stats.ttest_1samp(differences, 0).pvalue, rel=0.3)


def test_a_difference_that_every_one_of_eight_seeds_shows_is_found() -> None:
    (found,) = statistics.differences([[0.5, 0.6, 0.7, 0.5, 0.6, 0.7, 0.5, 0.6]], [0.4] * 8)
    assert found.p == pytest.approx(2 / 2**8) and found.p_holm == found.p


@pytest.mark.parametrize(("seeds", "tests"), [(3, 1), (5, 2), (8, 3)])
def test_the_least_possible_p_is_that_of_differences_of_one_sign(seeds: int, tests: int) -> None:
    ours = [[0.9 - 0.01 * seed] * seed + [0.8] * (seeds - seed) for seed in range(tests)]
    least = max(found.p_holm or 0 for found in statistics.differences(ours, [0.1] * seeds))
    assert least == pytest.approx(statistics.smallest_p(seeds, tests))


# -- Holm's correction ------------------------------------------------------------------------------------------------


def test_holms_correction_is_the_one_worked_by_hand() -> None:
    # In order 0.01 · 4, 0.02 · 3, 0.03 · 2 and 0.5 · 1; the third, as large as the second, does not fall below it.
    assert statistics.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert statistics.holm([0.01, 0.9, 0.011]) == pytest.approx([0.03, 0.9, 0.03])
    assert statistics.holm([0.4, 0.7]) == pytest.approx([0.8, 0.8])
    assert statistics.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_a_corrected_p_is_never_smaller_never_above_1_and_keeps_its_rank(ps: list[float]) -> None:
    corrected = statistics.holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, corrected, strict=True))
    pairs = sorted(zip(ps, corrected, strict=True))
    assert [q for _, q in pairs] == sorted(q for _, q in pairs)


def test_among_four_strategies_that_do_not_differ_one_is_called_different_in_at_most_5_of_100_families() -> None:
    draw, families = np.random.default_rng(3), 300
    wrong = 0
    for _ in range(families):
        seeds = draw.normal(0, 0.2, 8)
        values = (seeds + draw.normal(0, 0.05, (5, 8))).tolist()
        found = statistics.differences(values[:4], values[4])
        wrong += any(each.p_holm is not None and each.p_holm <= statistics.LEVEL for each in found)
    # Three standard errors of a share of 0.05 in 300 families are 0.038.
    assert wrong / families <= 0.05 + 0.038


# -- paired differences -----------------------------------------------------------------------------------------------


def test_differences_are_taken_seed_by_seed() -> None:
    # The seeds differ by 0.2 from each other, the strategies by 0.01, 0.02 and 0.03: mean 0.02, s = 0.01, t = 4.303.
    (found,) = statistics.differences([[0.11, 0.32, 0.53]], [0.1, 0.3, 0.5])
    assert found.estimate.mean == pytest.approx(0.02)
    assert found.estimate.half_width == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-3)
    assert not found.interval_excludes_zero  # 0.02 ± 0.025
    (closer,) = statistics.differences([[0.118, 0.320, 0.522]], [0.1, 0.3, 0.5])
    assert closer.interval_excludes_zero  # 0.02 ± 0.005
    (below,) = statistics.differences([[0.1, 0.3, 0.5]], [0.118, 0.320, 0.522])
    assert below.interval_excludes_zero and below.estimate.mean == pytest.approx(-0.02)


def test_values_of_other_seeds_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        statistics.differences([[0.1, 0.2]], [0.1, 0.2, 0.3])


def test_one_seed_has_a_difference_and_neither_interval_nor_test() -> None:
    (found,) = statistics.differences([[0.5]], [0.25])
    assert found.estimate.mean == 0.25 and found.estimate.half_width is None
    assert found.p is None and found.p_holm is None and not found.interval_excludes_zero


# -- across scenarios -------------------------------------------------------------------------------------------------


def test_the_interquartile_mean_leaves_out_the_lowest_and_the_highest_quarter_of_the_scenarios() -> None:
    # Means 0.1, 0.2, 0.4 and 0.9; the middle two are left.
    made = statistics.interquartile_mean([[0.9, 0.9], [0.1, 0.3], [0.0, 0.2], [0.4, 0.4]])
    assert made.mean == pytest.approx(0.3)


def test_a_scenario_counts_once_however_many_seeds_it_has() -> None:
    few = statistics.interquartile_mean([[0.2], [0.5], [0.8]])
    many = statistics.interquartile_mean([[0.2], [0.5], [0.8] * 20])
    assert few.mean == pytest.approx(0.5) and many.mean == pytest.approx(0.5)


def test_a_scenario_with_one_seed_gives_no_interval() -> None:
    made = statistics.interquartile_mean([[0.2], [0.5, 0.6], [0.8, 0.9]])
    assert made.low is None and made.high is None


def test_seeds_that_agree_give_an_interval_without_width_and_the_scenarios_are_not_drawn_from() -> None:
    made = statistics.interquartile_mean([[0.1] * 3, [0.5] * 3, [0.9] * 3])
    assert (made.low, made.high) == (pytest.approx(0.5), pytest.approx(0.5))


def test_with_many_seeds_the_interval_is_that_of_a_mean_of_normal_values() -> None:
    draw = np.random.default_rng(5)
    made = statistics.interquartile_mean([draw.normal(mean, 0.1, 100).tolist() for mean in (0.2, 0.5, 0.8)])
    assert made.low is not None and made.high is not None
    # Three scenarios, each known to 0.1/√100: 1.96 · 0.01 / √3 to each side of the mean.
    assert (made.high - made.low) / 2 == pytest.approx(1.96 * 0.01 / math.sqrt(3), rel=0.15)
    assert made.low < made.mean < made.high
