"""Spread of a score over seeds, and whether it differs between two arms."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray

MIN_SEEDS = 3
"""With two seeds an arm has a single free deviation, and deviations cannot be compared."""

_MOST_ARRANGEMENTS = 50_000
"""The most arrangements that are enumerated; 10 seeds per arm have C(18, 9) = 48,620."""


@dataclass(frozen=True)
class Spread:
    """Location and spread of one arm's scores over seeds, in the unit of the score."""

    num_seeds: int
    mean: float
    median: float
    standard_deviation: float | None  # with divisor S - 1; ``None`` for one seed
    median_absolute_deviation: float
    """Median of abs(score - median), not scaled to a normal standard deviation; 0 for one seed."""
    min: float
    max: float


@dataclass(frozen=True)
class SpreadComparison:
    """The spread of two arms and the test that both are equal."""

    names: tuple[str, str]
    a: Spread
    b: Spread
    sd_ratio: float | None
    """Standard deviation of A over that of B; ``None`` if B's is 0 or an arm has one seed."""
    p_value: float | None
    smallest_p_value: float | None  # the smallest p value possible with so many seeds
    method: str
    reason: str | None  # why ``p_value`` is ``None``; ``None`` if it is a number


def describe_spread(values: ArrayLike) -> Spread:
    """Return location and spread of (S,) scores, one per seed."""
    x = _checks.finite(values, "values", 1)
    varies = _checks.varies(x, float(np.abs(x).max()))
    return Spread(
        num_seeds=len(x),
        mean=float(x.mean()) if varies else float(x[0]),
        median=_median(x),
        standard_deviation=(float(x.std(ddof=1)) if varies else 0.0) if len(x) > 1 else None,
        median_absolute_deviation=_median(np.abs(x - _median(x))),
        min=float(x.min()),
        max=float(x.max()),
    )


def _median(x: FloatArray) -> float:
    """Return the median; ten times faster than ``np.median`` for a few values."""
    ordered = np.sort(x)
    return float(ordered[(len(x) - 1) // 2] + ordered[len(x) // 2]) / 2


def deviations(values: FloatArray) -> FloatArray:
    """Return the absolute deviations from the median without the structural zero, shape (S-1,).

    The median of an odd sample is one of its values, so one deviation is always 0. In an even
    sample the two middle values always have equal deviations z. Hines and O'Hara Hines (2000,
    Biometrics 56, 451-454) remove the zero, and in the even case first rotate the pair (z, z) to
    (sqrt(2) z, 0); S - 1 free deviations remain.
    """
    x = np.sort(values)
    middle = len(x) // 2
    z: FloatArray = np.abs(x - _median(x))
    if len(x) % 2 == 0:
        z[middle - 1] *= np.sqrt(2)
    return np.delete(z, middle)


def spread(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    *,
    names: tuple[str, str] = ("A", "B"),
    num_resamples: int = 9_999,
) -> SpreadComparison:
    """Return the spread of both arms and a two-sided permutation test that the spreads are equal.

    The statistic is the difference of the mean ``deviations`` of A and B (Brown and Forsythe
    1974, without structural zeros). The deviations are permuted between the arms: all arrangements
    are enumerated up to 50,000 of them (10 seeds per arm), beyond that they are drawn at random.
    The p value is twice the smaller tail, at most 1, as in ``scipy.stats.permutation_test``.
    Cost: about 0.4 ms for 10 seeds per arm, 2 ms for 100.

    The test is not exact because each arm is centred on its own median. Measured false-positive
    rate in percent at level 0.05, two independent arms of one distribution, 20,000 simulations
    (-+ 0.3):

        distribution of the seeds               3    4     5    10    zeros kept: 5    10
        normal                                  0    0   2.4   5.1              0.4   3.8
        Student t, 3 degrees of freedom         0    0   2.8   6.0              0.7   4.7
        exponential                             0    0   4.5   7.6              1.3   6.9
        30 % collapse: two narrow modes         0    0   3.4   7.6              1.1   7.4

    With fewer than 5 seeds per arm no p value below 0.05 exists (``smallest_p_value``). "zeros
    kept" is the test without the removal: with 5 seeds it hardly ever rejects. If the scores of one
    seed correlate by 0.7 between the arms, the rates fall to 1.0 (5 seeds) and 1.8 (10) for normal
    scores: the test is then conservative. ``a`` has the shape (S_a,), one score per seed, ``b``
    (S_b,), not paired with ``a``. ``rng`` is used only if there are more than 50,000 arrangements,
    ``num_resamples`` is then their number; ``names`` are copied to the result.
    """
    x, y = _checks.finite(a, "a", 1), _checks.finite(b, "b", 1)
    spread_a, spread_b = describe_spread(x), describe_spread(y)
    sd_a, sd_b = spread_a.standard_deviation, spread_b.standard_deviation
    ratio = sd_a / sd_b if sd_a is not None and sd_b is not None and sd_b > 0 else None
    method = "permutation test on absolute deviations from the median, structural zeros removed"
    fewest = min(len(x), len(y))
    if fewest < MIN_SEEDS:
        reason = f"{fewest} seed{'s' if fewest > 1 else ''} in an arm: at least {MIN_SEEDS} needed"
        return SpreadComparison(names, spread_a, spread_b, ratio, None, None, method, reason)
    z_a, z_b = deviations(x), deviations(y)
    num_a, num_all = len(z_a), math.comb(len(z_a) + len(z_b), len(z_a))
    exact = num_all <= _MOST_ARRANGEMENTS
    pooled = np.concatenate([z_a, z_b])
    if exact:
        sums = _sums(pooled, num_a)
    else:
        sums = _random_subsets(len(pooled), num_a, num_resamples) @ rng.permuted(pooled)
    # The total is fixed, so the difference of the means increases with the sum of A. Equal sums
    # must count as equal despite rounding.
    slack = 1e-12 * pooled.sum()
    upper, lower = sums >= z_a.sum() - slack, sums <= z_a.sum() + slack
    hits = min(np.count_nonzero(upper), np.count_nonzero(lower))
    # The observed arrangement counts beside the random ones (Phipson and Smyth 2010).
    hits, total = (hits, num_all) if exact else (hits + 1, num_resamples + 1)
    p_value, smallest = min(1.0, 2 * hits / total), 2 / total
    method += f"; all {num_all} arrangements" if exact else f"; random {num_resamples} arrangements"
    return SpreadComparison(names, spread_a, spread_b, ratio, p_value, smallest, method, None)


def _sums(values: FloatArray, chosen: int) -> FloatArray:
    """Return the sum of every subset of ``values`` with ``chosen`` members.

    Each subset combines one of the first half with one of the second half, so few sums are computed
    from single values: for 9 of 18 the 512 of each half instead of 48,620.
    """
    half = len(values) // 2
    first, second = values[:half], values[half:]
    parts = [
        np.add.outer(_subsets(half, k) @ first, _subsets(len(second), chosen - k) @ second)
        for k in range(max(0, chosen - len(second)), min(half, chosen) + 1)
    ]
    return np.concatenate([part.ravel() for part in parts])


@lru_cache(maxsize=2)
def _random_subsets(total: int, chosen: int, number: int) -> FloatArray:
    """Return random subsets of ``total`` values with ``chosen`` members, as rows of zeros and ones.

    The rows are drawn once and reused. The caller shuffles the values instead, which makes each
    row a random subset of them in a twentieth of the time.
    """
    row = (np.arange(total) < chosen).astype(np.float64)
    return np.random.default_rng(0).permuted(np.tile(row, (number, 1)), axis=1)


@lru_cache(maxsize=64)
def _subsets(total: int, chosen: int) -> FloatArray:
    """Return all subsets of ``total`` values with ``chosen`` members, as rows of zeros and ones."""
    ways = list(combinations(range(total), chosen))
    rows = np.zeros((len(ways), total))
    np.put_along_axis(rows, np.array(ways, np.int64).reshape(len(ways), chosen), 1.0, axis=1)
    return rows
