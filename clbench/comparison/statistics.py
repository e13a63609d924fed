"""What numbers over a few seeds allow one to say: intervals, paired differences, tests, and means over scenarios.

Strategies share their seeds (class order, initial weights, order of batches), so they are compared by the differences
of their runs with equal seeds. The methods are scipy's, but for Holm's correction (Holm 1979), which it lacks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEVEL = 0.05
"""At which a difference is called distinguishable, after Holm's correction."""

_EXACT_UP_TO = 16  # seeds: 2^16 sign patterns are counted in full; beyond, as many are drawn
_RESAMPLES = 9999


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % t-interval, mean ± half_width."""

    mean: float
    half_width: float | None
    """None with one seed, where no interval is known."""


@dataclass(frozen=True)
class Difference:
    """Paired differences of one strategy's values to another's, over the seeds that both have."""

    estimate: Estimate
    p: float | None
    """Two-sided p of the exact sign-flip test; None with one seed, which tests nothing."""

    p_holm: float | None
    """The same after Holm's correction over the family of differences that it was tested with."""

    @property
    def interval_excludes_zero(self) -> bool:
        """Whether the t-interval of the difference lies on one side of 0."""
        width = self.estimate.half_width
        return width is not None and abs(self.estimate.mean) > width


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """mean ± t(0.975, n-1) · s / √n over seeds; None where a value is undefined."""
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

    Exact up to 16 differences: the share of all 2^n sign patterns whose mean is at least as far from 0. Of more, a
    sample of 2^16 patterns, drawn from a fixed seed. Fisher 1935; Good 2005, "Permutation Tests", section 3.2.
    """
    import numpy as np
    from scipy.stats import permutation_test

    tested = permutation_test(
        (np.asarray(differences),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**_EXACT_UP_TO,
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number: p_(k) · (m - k + 1), never falling, at most 1. Holm 1979."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        running = max(running, min(1.0, p_values[position] * (len(p_values) - rank)))
        corrected[position] = running
    return corrected


def smallest_p(seeds: int, tests: int) -> float:
    """Return the least p that the sign-flip test can give with so many seeds, after Holm's correction over `tests`."""
    return min(1.0, tests * 0.5 ** (seeds - 1))


def differences(ours: Sequence[Sequence[float]], theirs: Sequence[float]) -> list[Difference]:
    """Compare each of `ours` with `theirs`, seed by seed, as one family of tests.

    Every sequence has the values of the same seeds in the same order.
    """
    paired = [[a - b for a, b in zip(values, theirs, strict=True)] for values in ours]
    tested = len(theirs) > 1
    p_values = [sign_flip_p(each) for each in paired] if tested else []
    corrected = holm(p_values)
    found = []
    for position, each in enumerate(paired):
        made = estimate(each)
        assert made is not None
        found.append(Difference(made, p_values[position] if tested else None, corrected[position] if tested else None))
    return found


@dataclass(frozen=True)
class Aggregate:
    """An interquartile mean over scenarios with a 95 % interval."""

    mean: float
    low: float | None
    high: float | None
    """Bounds of the interval; None where a scenario has one seed."""


def interquartile_mean(scenarios: Sequence[Sequence[float]]) -> Aggregate:
    """Return the mean over scenarios, each by its mean over seeds, without the lowest and the highest quarter of them.

    The interval is a percentile bootstrap that draws seeds within each scenario (stratified) from a fixed seed: it
    tells what other seeds would give on these scenarios, not what other scenarios would. Seeds never count as
    scenarios. After Agarwal et al. 2021 (arXiv 2108.13264), who pool runs and trim them together.
    """
    import numpy as np
    from scipy.stats import bootstrap, trim_mean

    def statistic(*samples: Any, axis: int = -1) -> Any:
        means = np.stack([np.mean(sample, axis=axis) for sample in samples])  # (scenarios, …)
        return trim_mean(means, 0.25, axis=0)

    arrays = [np.asarray(values, dtype=float) for values in scenarios]
    mean = float(statistic(*arrays))
    if min(map(len, arrays)) < 2:
        return Aggregate(mean, None, None)
    interval = bootstrap(
        arrays,
        statistic,
        vectorized=True,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Aggregate(mean, float(interval.low), float(interval.high))
