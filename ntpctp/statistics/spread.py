"""Differences in spread between arms: how much a score depends on the seed."""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray

MIN_SEEDS = 3
"""Two values have one distance between them, which says nothing about its own spread."""

MAX_EXACT = 50_000
"""The longest enumeration: 10 seeds an arm have 48,620 arrangements."""


@dataclass(frozen=True)
class Spread:
    """How the scores of one arm lie, in the unit of the score."""

    num_seeds: int
    mean: float
    median: float
    standard_deviation: float | None
    """With divisor S - 1; ``None`` for one seed."""
    median_absolute_deviation: float
    """From the median, not scaled to a normal standard deviation; 0 for one seed."""
    min: float
    max: float


@dataclass(frozen=True)
class SpreadComparison:
    """The spread of two arms and the test that they are equal."""

    names: tuple[str, str]
    a: Spread
    b: Spread
    sd_ratio: float | None
    """Standard deviation of A over that of B; ``None`` if B's is 0 or an arm has one seed."""
    p_value: float | None
    smallest_p_value: float | None
    """What the test gives at best with so few seeds: no smaller p value is possible."""
    method: str
    reason: str | None
    """Why there is no p value; otherwise ``None``."""


def describe_spread(values: ArrayLike) -> Spread:
    """Return location and spread of (S,) scores, one a seed.

    Raises:
        InputError: if ``values`` is empty, not one-dimensional or not finite.
    """
    x = _checks.finite(values, "values", 1)
    return Spread(
        num_seeds=len(x),
        mean=float(x.mean()),
        median=float(np.median(x)),
        standard_deviation=float(x.std(ddof=1)) if len(x) > 1 else None,
        median_absolute_deviation=float(np.median(np.abs(x - np.median(x)))),
        min=float(x.min()),
        max=float(x.max()),
    )


def deviations(values: FloatArray) -> FloatArray:
    """Return the absolute deviations from the median without the structural zero, shape (S-1,).

    The median of an odd sample is one of its values, whose deviation is always 0; of an even
    sample, the two middle values have always equal deviations z. Hines and O'Hara Hines (2000,
    Biometrics 56, 451-454) remove the zero, and in the even case rotate the pair (z, z) to
    (sqrt(2) z, 0) and remove that zero; S - 1 free deviations remain.
    """
    x = np.sort(values)
    middle = len(x) // 2
    z: FloatArray = np.abs(x - np.median(x))
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
    """Return the spread of both arms and a two-sided permutation test that they are equal.

    The statistic is the difference of the mean ``deviations`` of A and B (Brown and Forsythe
    1974, without structural zeros); the deviations are permuted between the arms, exactly if
    there are at most ``MAX_EXACT`` arrangements (up to 10 seeds an arm), otherwise at random. The p
    value is twice the smaller tail, as in ``scipy.stats.permutation_test``, which does the same 40
    times slower (80 ms for 10 seeds an arm).

    As each arm is centred on its own median the test is not exact. Measured false-positive rate
    in percent at level 0.05, two independent arms of one distribution, 20,000 simulations
    (-+ 0.3):

        distribution of the seeds               3    4     5    10    zeros kept: 5    10
        normal                                  0    0   2.4   5.1              0.4   3.8
        Student t, 3 degrees of freedom         0    0   2.8   6.0              0.7   4.7
        exponential                             0    0   4.5   7.6              1.3   6.9
        30 % collapse: two narrow modes         0    0   3.4   7.6              1.1   7.4

    With fewer than 5 seeds no p value below 0.05 exists (``smallest_p_value``). "zeros kept" is
    the test without the removal: with 5 seeds it all but never rejects. Where scores of one seed
    correlate by 0.7 between the arms, the rates fall to 1.0 (5 seeds) and 1.8 (10) for normal
    scores: the test is then too careful.

    Args:
        a: float, shape (S_a,), one score a seed.
        b: float, shape (S_b,); not paired with ``a``.
        rng: used only where there are too many arrangements.
        names: of A and B, kept in the result.
        num_resamples: random arrangements.

    Raises:
        InputError: if an array is empty, not one-dimensional or not finite.
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
    sizes = len(z_a), len(z_b)
    num_all = math.comb(sum(sizes), sizes[0])
    exact = num_all <= MAX_EXACT
    arrangements = num_all if exact else num_resamples
    in_a = _all_choices(*sizes) if exact else _random_choices(*sizes, num_resamples, rng)
    z = np.concatenate([z_a, z_b])
    of_a = in_a @ z
    found = of_a / sizes[0] - (z.sum() - of_a) / sizes[1]
    observed = float(z_a.mean() - z_b.mean())
    # Equal sums must count as equal however they were rounded.
    tolerance = 1e-12 * float(z.max())
    tails = [
        int(np.count_nonzero(found >= observed - tolerance)),
        int(np.count_nonzero(found <= observed + tolerance)),
    ]
    # The observed arrangement is one of all; to random ones it is added.
    added = 0 if exact else 1
    p_value = min(1.0, 2 * (min(tails) + added) / (arrangements + added))
    smallest = 2 / (arrangements + added)
    words = f"{method}; {'all' if exact else 'random'} {arrangements} arrangements"
    return SpreadComparison(names, spread_a, spread_b, ratio, p_value, smallest, words, None)


@lru_cache(maxsize=16)
def _all_choices(num_a: int, num_b: int) -> FloatArray:
    """Return 1 where a value goes to A, for every choice of ``num_a`` values: (choices, values)."""
    chosen = np.array(list(combinations(range(num_a + num_b), num_a)))
    in_a = np.zeros((len(chosen), num_a + num_b))
    np.put_along_axis(in_a, chosen, 1, axis=1)
    return in_a


def _random_choices(num_a: int, num_b: int, count: int, rng: np.random.Generator) -> FloatArray:
    """Return the same for ``count`` random choices."""
    in_a = np.repeat([1.0, 0.0], [num_a, num_b])
    return rng.permuted(np.tile(in_a, (count, 1)), axis=1)
