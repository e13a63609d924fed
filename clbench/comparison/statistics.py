"""The statistics of numbers over a few seeds: intervals, paired differences, tests, and means over scenarios.

Strategies share their seeds (class order, initial weights, order of batches), so they are compared by the differences
of their runs with equal seeds. Quantiles are scipy's.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

LEVEL = 0.05
"""The level at which a difference is called distinguishable: the family-wise error of each family of tests."""

_PATTERNS = 2**12  # as many as 13 seeds have, where a pattern and its negative count once
_ROUNDING = 1e-9  # by which sums that are equal in exact arithmetic may differ


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % t-interval, mean ± half_width."""

    mean: float
    half_width: float | None
    """None with one seed, which gives no interval."""


@dataclass(frozen=True)
class Difference:
    """Paired differences between one strategy's values and another's, over the seeds that both have."""

    estimate: Estimate
    p: float | None
    """Two-sided p of the exact sign-flip test; None with one seed, which tests nothing."""

    p_holm: float | None
    """The same after Holm's correction over the family of differences that it was tested with."""


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """Return mean ± t(0.975, n-1) · s / √n over seeds; None if a value is undefined."""
    defined = [value for value in values if value is not None]
    if len(defined) < len(values) or not defined:
        return None
    mean = statistics.fmean(defined)
    if len(defined) == 1:
        return Estimate(mean, None)
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(defined) - 1, 0.975))
    return Estimate(mean, quantile * statistics.stdev(defined) / math.sqrt(len(defined)))


def sign_flip_p(differences: Sequence[float]) -> float:
    """Return the two-sided p of the mean difference when, under the null, each difference could as well be negative.

    It is the share of all 2^n sign patterns whose mean is at least as far from 0; beyond 13 differences, of those
    patterns that `_sign_patterns` chooses. Fisher 1935; Good 2005, "Permutation Tests", section 3.2.
    """
    import numpy as np

    sums = np.abs(_sign_patterns(len(differences)) @ np.asarray(differences, dtype=float))
    return float(np.mean(sums >= abs(math.fsum(differences)) - _ROUNDING))


@functools.lru_cache(maxsize=1)
def _sign_patterns(seeds: int) -> Any:
    """Return patterns of signs, a row of `seeds` each; one of a pattern and its negative, which have the same |mean|.

    Beyond 13 seeds, it is a subgroup of the patterns, drawn from a fixed seed. A subgroup keeps the test exact, which
    a sample of patterns that is not drawn anew for every test would not. Koning & Hemerik 2024, arXiv 2202.00967.
    """
    import numpy as np

    free = seeds - 1
    generators = min(free, _PATTERNS.bit_length() - 1)
    drawn = np.random.default_rng(0).integers(0, 2, (generators, free - generators))
    basis = np.hstack([np.eye(generators, dtype=int), drawn])  # (generators, seeds - 1)
    chosen = np.arange(2**generators)[:, None] >> np.arange(generators) & 1
    return np.hstack([np.ones((2**generators, 1)), 1 - 2 * (chosen @ basis % 2)])


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number: p_(k) · (m - k + 1), never falling, at most 1. Holm 1979."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        running = max(running, min(1.0, p_values[position] * (len(p_values) - rank)))
        corrected[position] = running
    return corrected


def differences(ours: Sequence[Sequence[float]], theirs: Sequence[float]) -> list[Difference]:
    """Compare each of `ours` with `theirs`, seed by seed, as one family of tests.

    Every sequence has the values of the same seeds in the same order.
    """
    pairs = [[a - b for a, b in zip(values, theirs, strict=True)] for values in ours]
    tested = len(theirs) > 1
    p_values = [sign_flip_p(each) for each in pairs] if tested else []
    corrected = holm(p_values)
    return [
        Difference(paired(values, theirs), p_values[i] if tested else None, corrected[i] if tested else None)
        for i, values in enumerate(ours)
    ]


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """Return the mean paired difference, ours minus theirs, with its interval; for the same seeds in the same order."""
    made = estimate([a - b for a, b in zip(ours, theirs, strict=True)])
    assert made is not None
    return made


# -- ties with the best -----------------------------------------------------------------------------------------------


def p_as_good_as_best(values: Sequence[Sequence[float]]) -> list[float]:
    """Return for each strategy the p of its being as good as the best; 1 for the one with the highest mean.

    `values` has a row per strategy with the values of the same seeds in the same order. Those whose p is above `LEVEL`
    are a model confidence set (Hansen, Lunde & Nason 2011, statistic T_R): while more than one strategy is left, test
    by their largest paired |t| that all that are left are equal, and eliminate the lower one of that pair. A strategy's
    p is the largest of the tests up to its elimination.

    Each test flips the signs of a seed's differences for all pairs at once, so it holds whatever the correlations and
    variances of the strategies, if they are equal and the differences symmetric. Every strategy that is
    as good as the best keeps p > `LEVEL` in 95 of 100 cases, and the number of strategies does not bound p from below:
    see `smallest_joint_p`.
    """
    import numpy as np

    scores = np.asarray(values, dtype=float)  # (strategies, seeds)
    best = int(scores.mean(axis=1).argmax())
    left, right = np.triu_indices(len(scores), 1)
    differences = scores[left] - scores[right]  # (pairs, seeds)
    # Signs do not change a sum of squares, and the mean over its root rises with |t|: only the order matters.
    size = np.sqrt((differences**2).sum(axis=1))
    scaled = differences / np.where(size > 0, size, 1)[:, None]
    observed = scaled.sum(axis=1)
    flipped = np.abs(scaled @ _sign_patterns(scores.shape[1]).T)  # (pairs, flips)

    tests = _eliminations(observed, left, right, best)

    farthest = np.zeros(flipped.shape[1])  # of the pairs that remain at a test, for each flip
    p_values = []
    for _, pairs, statistic in reversed(tests):
        farthest = np.maximum(farthest, flipped[pairs].max(axis=0))
        p_values.append(float(np.mean(farthest >= statistic - _ROUNDING)))
    found = [1.0] * len(scores)
    for (lower, _, _), p in zip(tests, accumulate(reversed(p_values), max), strict=True):
        found[lower] = p
    return found


def _eliminations(observed: Any, left: Any, right: Any, best: int) -> list[tuple[int, Any, float]]:
    """Return the tests in their order: the strategy that is eliminated, the pairs that go with it, and the statistic.

    The statistic of pair i, of `left[i]` and `right[i]`, is `observed[i]`; the largest of those that remain is tested.
    """
    import numpy as np

    remaining = np.ones(1 + right.max(), dtype=bool)
    tests = []
    while remaining.sum() > 1:
        pairs = np.flatnonzero(remaining[left] & remaining[right])
        widest = pairs[np.abs(observed[pairs]).argmax()]
        one, other = int(left[widest]), int(right[widest])
        lower = one if other == best or (one != best and observed[widest] < 0) else other
        going = pairs[(left[pairs] == lower) | (right[pairs] == lower)]
        tests.append((lower, going, float(abs(observed[widest]))))
        remaining[lower] = False
    return tests


def smallest_joint_p(seeds: int) -> float:
    """Return the least p that `p_as_good_as_best` can give: two of the 2^n patterns are always as far as the seeds."""
    return max(0.5 ** (seeds - 1), 1 / _PATTERNS)


# -- over scenarios ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Aggregate:
    """An interquartile mean over scenarios with a 95 % interval."""

    mean: float
    low: float | None
    high: float | None
    """Bounds of the interval; None if a scenario has one seed."""


def trims(scenarios: int) -> bool:
    """Whether the interquartile mean of this many scenarios leaves any out, and so is not their plain mean."""
    return scenarios >= 4


def interquartile_mean(scenarios: Sequence[Sequence[float]]) -> Aggregate:
    """Return the mean over scenarios, each by its mean over seeds, without the lowest and the highest quarter of them.

    The interval is a t-interval of the scenarios that are left, whose seeds vary unequally (Welch 1947): it covers what
    other seeds would give on these scenarios, not what other scenarios would. Seeds never count as scenarios. A quarter
    of three scenarios is none: see `trims`. After Agarwal et al. 2021 (arXiv 2108.13264), who pool runs and trim them
    together, and whose bootstrap of so few seeds is too narrow.
    """
    import numpy as np
    from scipy.special import stdtrit

    by_mean = sorted(([*map(float, values)] for values in scenarios), key=np.mean)
    cut = len(by_mean) // 4
    left = by_mean[cut : len(by_mean) - cut]
    mean = float(np.mean([np.mean(values) for values in left]))
    if min(map(len, scenarios)) < 2:
        return Aggregate(mean, None, None)
    variances = np.array([np.var(values, ddof=1) / len(values) for values in left])  # of the scenarios' means
    if not variances.any():
        return Aggregate(mean, mean, mean)
    freedom = variances.sum() ** 2 / sum(v**2 / (len(values) - 1) for v, values in zip(variances, left, strict=True))
    half = float(stdtrit(freedom, 0.975) * np.sqrt(variances.sum()) / len(left))
    return Aggregate(mean, max(0.0, mean - half), min(1.0, mean + half))
