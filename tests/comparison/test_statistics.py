"""Intervals, tests and means over scenarios: worked by hand, and tested against the distributions they assume."""

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


def test_differences_whose_sum_is_0_but_for_rounding_have_a_p_of_1() -> None:
    # -46 - 84 - 18 + 16 + 84 + 48 = 0, in hundredths.
    assert statistics.sign_flip_p([-0.46, -0.84, -0.18, 0.16, 0.84, 0.48]) == 1


def test_many_seeds_are_tested_by_patterns_that_are_always_the_same() -> None:
    differences = np.random.default_rng(1).normal(0.01, 0.05, 24).tolist()
    p = statistics.sign_flip_p(differences)
    assert p == statistics.sign_flip_p(differences)
    assert p == pytest.approx(scipy.stats.ttest_1samp(differences, 0).pvalue, rel=0.3)


def test_a_difference_that_every_one_of_eight_seeds_shows_is_found() -> None:
    (found,) = statistics.differences([[0.5, 0.6, 0.7, 0.5, 0.6, 0.7, 0.5, 0.6]], [0.4] * 8)
    assert found.p == pytest.approx(2 / 2**8) and found.p_holm == found.p


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


# -- ties with the best -----------------------------------------------------------------------------------------------


def test_the_p_of_a_lower_strategy_is_the_share_of_joint_sign_patterns_counted_by_hand() -> None:
    # Differences 1, 2 and 3: only +++ and --- are as far from 0. Signs of 1, -2 and 3: six of eight are.
    assert statistics.p_as_good_as_best([[0, 0, 0], [1, 2, 3]]) == [2 / 8, 1]
    assert statistics.p_as_good_as_best([[1, -2, 3], [0, 0, 0]]) == [1, 6 / 8]


def test_two_strategies_have_the_p_of_the_paired_test() -> None:
    ours, theirs = np.random.default_rng(7).normal(0, 1, (2, 9))
    lower = min(statistics.p_as_good_as_best([ours.tolist(), theirs.tolist()]))
    assert lower == pytest.approx(statistics.sign_flip_p((ours - theirs).tolist()))


def test_a_test_of_three_strategies_flips_the_signs_of_all_pairs_at_once() -> None:
    # With a = (4, 4, 4), b = (1, 2, 0) and c = 0, the widest pair is a and c, of equal differences: |t| is infinite.
    # Of the four patterns up to a common sign only +++ reaches that for any pair. Then a and b: 3, 2 and 4, again +++.
    assert statistics.p_as_good_as_best([[4, 4, 4], [1, 2, 0], [0, 0, 0]]) == [1, 1 / 4, 1 / 4]


def test_a_strategy_eliminated_later_has_no_smaller_p() -> None:
    p_values = statistics.p_as_good_as_best(np.random.default_rng(2).normal([[0.0], [1], [2], [3]], 1, (4, 7)).tolist())
    assert p_values == sorted(p_values) and p_values[-1] == 1


def test_strategies_that_are_equal_in_every_seed_are_tied() -> None:
    assert statistics.p_as_good_as_best([[0.3, 0.7, 0.1] * 3] * 3) == [1, 1, 1]


def test_the_least_possible_p_does_not_depend_on_the_number_of_strategies() -> None:
    for strategies in (2, 5, 10):
        apart = [[float(strategy)] * 6 for strategy in range(strategies)]
        assert statistics.p_as_good_as_best(apart)[0] == statistics.smallest_joint_p(6) == 2 / 2**6


@pytest.mark.parametrize("seeds", [6, 13, 14, 20, 40])
def test_the_sign_patterns_are_a_group_of_different_patterns_without_negatives(seeds: int) -> None:
    patterns = statistics._sign_patterns(seeds)
    assert patterns.shape == (2 ** min(seeds - 1, 12), seeds) and set(patterns[:, 0]) == {1}
    known = {tuple(pattern) for pattern in patterns}
    assert len(known) == len(patterns)
    pairs = np.random.default_rng(0).integers(0, len(patterns), (200, 2))
    assert all(tuple(patterns[one] * patterns[other]) in known for one, other in pairs)


def called_lower(draw: np.random.Generator, means: np.ndarray, spread: np.ndarray, seeds: int) -> np.ndarray:
    """Draw the values of a family of strategies that share the difficulty of a seed, and test them."""
    values = means[:, None] + draw.normal(0, 1, seeds) + draw.normal(0, spread[:, None], (len(means), seeds))
    return np.array(statistics.p_as_good_as_best(values.tolist())) <= statistics.LEVEL


@pytest.mark.parametrize("strategies", [5, 10])
@pytest.mark.parametrize(
    ("seeds", "families"),
    [(6, 1500), pytest.param(10, 1500, marks=pytest.mark.slow), pytest.param(20, 600, marks=pytest.mark.slow)],
)
def test_whatever_is_best_it_loses_its_mark_in_at_most_5_of_100_families(
    strategies: int, seeds: int, families: int
) -> None:
    draw = np.random.default_rng(strategies + seeds)
    equal, half, ladder = np.zeros(strategies), np.zeros(strategies), -0.7 * np.arange(strategies)
    half[: strategies // 2] = -3
    alike, unlike = np.ones(strategies), np.geomspace(0.1, 10, strategies)
    for means, spread in ((equal, alike), (equal, unlike), (half, alike), (ladder, unlike[::-1])):
        best = means == means.max()
        wrong = sum(called_lower(draw, means, spread, seeds)[best].any() for _ in range(families))
        # Three standard errors of a share of 0.05: 0.017 in 1500 families, 0.027 in 600.
        assert wrong / families <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / families)


@pytest.mark.parametrize("apart", ["the lowest", "the highest", "the lower half"])
def test_of_10_strategies_over_10_seeds_a_difference_of_3_standard_deviations_is_found(apart: str) -> None:
    draw, families, means = np.random.default_rng(10), 400, np.zeros(10)
    means[{"the lowest": slice(1), "the highest": slice(1, 10), "the lower half": slice(5)}[apart]] = -3
    lower = means < 0
    found = np.array([called_lower(draw, means, np.ones(10), 10)[lower].mean() for _ in range(families)])
    # At least 80 of 100, by three standard errors.
    assert found.mean() - 3 * found.std() / math.sqrt(families) >= 0.8


# -- paired differences -----------------------------------------------------------------------------------------------


def test_differences_are_taken_seed_by_seed() -> None:
    # The seeds differ by 0.2 from each other, the strategies by 0.01, 0.02 and 0.03: mean 0.02, s = 0.01, t = 4.303.
    (found,) = statistics.differences([[0.11, 0.32, 0.53]], [0.1, 0.3, 0.5])
    assert found.estimate.mean == pytest.approx(0.02)
    assert found.estimate.half_width == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-3)


def test_values_of_other_seeds_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        statistics.differences([[0.1, 0.2]], [0.1, 0.2, 0.3])


def test_one_seed_has_a_difference_and_neither_interval_nor_test() -> None:
    (found,) = statistics.differences([[0.5]], [0.25])
    assert found.estimate.mean == 0.25 and found.estimate.half_width is None
    assert found.p is None and found.p_holm is None


# -- across scenarios -------------------------------------------------------------------------------------------------


def test_the_interquartile_mean_leaves_out_the_lowest_and_the_highest_quarter_of_the_scenarios() -> None:
    # Means 0.1, 0.2, 0.4 and 0.9; the middle two are left.
    made = statistics.interquartile_mean([[0.9, 0.9], [0.1, 0.3], [0.0, 0.2], [0.4, 0.4]])
    assert made.mean == pytest.approx(0.3)


@pytest.mark.parametrize("scenarios", [1, 2, 3, 4, 5, 8])
def test_an_interquartile_mean_is_said_to_trim_where_it_is_not_the_plain_mean(scenarios: int) -> None:
    means = [0.1 * n**2 for n in range(scenarios)]
    made = statistics.interquartile_mean([[mean] for mean in means])
    assert statistics.trims(scenarios) == (made.mean != pytest.approx(np.mean(means)))


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


@pytest.mark.parametrize("scenarios", [3, 4, 6])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_interval_over_scenarios_holds_the_mean_of_all_seeds_19_times_in_20(scenarios: int, seeds: int) -> None:
    draw, repetitions = np.random.default_rng(scenarios * 10 + seeds), 1000
    means = 0.2 + 0.1 * np.arange(scenarios)
    deviations = draw.uniform(0.005, 0.02, scenarios)
    held = 0
    for _ in range(repetitions):
        values = means[:, None] + deviations[:, None] * draw.standard_normal((scenarios, seeds))
        made = statistics.interquartile_mean(values.tolist())
        assert made.low is not None and made.high is not None
        held += made.low <= means.mean() <= made.high
    assert held / repetitions > 0.95 - 3 * math.sqrt(0.95 * 0.05 / repetitions)


def test_an_accuracy_over_scenarios_has_bounds_between_0_and_1() -> None:
    made = statistics.interquartile_mean([[0.0, 0.1], [0.1, 0.2], [0.0, 0.3]])
    assert made.low == 0 and made.high is not None and 0 < made.high <= 1


def test_with_many_seeds_the_interval_is_that_of_a_mean_of_normal_values() -> None:
    draw = np.random.default_rng(5)
    made = statistics.interquartile_mean([draw.normal(mean, 0.1, 100).tolist() for mean in (0.2, 0.5, 0.8)])
    assert made.low is not None and made.high is not None
    # Three scenarios, each known to 0.1/√100: 1.96 · 0.01 / √3 to each side of the mean.
    assert (made.high - made.low) / 2 == pytest.approx(1.96 * 0.01 / math.sqrt(3), rel=0.15)
    assert made.low < made.mean < made.high
