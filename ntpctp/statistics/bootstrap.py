"""The seeds-and-items bootstrap of a difference, bias-corrected, from the seeds where it holds.

Shape letters: S seeds, N items, R resamples in one chunk.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray

MIN_SEEDS = 8
"""Below, the measured coverage in ``bootstrap_interval`` is too far from the nominal one."""

# R x N weights are held at a time: 16 MB of int64 and as much of float64.
_CHUNK_WEIGHTS = 2_000_000


@dataclass(frozen=True)
class BootstrapInterval:
    """A difference A - B with its bootstrap interval, in the unit of the score."""

    estimate: float
    low: float | None
    high: float | None
    standard_error: float | None
    level: float
    num_seeds: int
    num_items: int | None
    num_resamples: int
    method: str
    reason: str | None


def bootstrap_interval(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    num_resamples: int = 10_000,
) -> BootstrapInterval:
    """Return the mean of A minus the mean of B with a BCa interval over seeds and items.

    Seeds and items are drawn with replacement, independently of each other and the same for
    both arms (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1). With
    draws w_s (sum S) and v_n (sum N) a resample is sum_sn w_s v_n d_sn / (S N), d = a - b. The
    ends are the quantiles of the resamples at

        Phi(z0 + (z0 + z) / (1 - c (z0 + z)))

    (Efron 1987, BCa): z0 the normal quantile of the share of resamples below the estimate, ties
    half; c the acceleration for several samples (DiCiccio and Efron 1996), from the
    influences U_s = d_s. - d_.. and V_n = d_.n - d_.. of seeds and items,

        c = (sum U^3 / S^3 + sum V^3 / N^3) / (6 (sum U^2 / S^2 + sum V^2 / N^2)^1.5).

    z is not the normal quantile but t(S - 1) sqrt(S / (S - 1)), which undoes the narrowness of a
    small bootstrap (Hesterberg 2015, The American Statistician 69: expanded percentiles).

    Measured coverage of the 95 % interval in percent (100 items, 1,000 simulations, -+ 1.4), in
    brackets without the expansion, which is the usual BCa:

        seeds                                       3         5         8        10        20
        Gaussian, seeds dominate              86 (76)   92 (84)   95 (89)   95 (92)   95 (94)
        Gaussian, seeds and items alike       98 (89)   99 (91)   98 (95)   98 (94)   96 (94)
        Gaussian, items dominate             100 (95)  100 (95)   99 (95)   98 (94)   96 (95)
        Gaussian, interaction only          100 (99) 100 (100) 100 (100) 100 (100) 100 (100)
        exponential seeds dominate            71 (69)   88 (81)   90 (86)   92 (88)   94 (92)

    Hence no interval below 8 seeds. It is too wide where the interaction dominates, as the
    resamples count it three times (Owen 2007).

    Cost: R x N random integers and one product with (N, S) a chunk; about one second for
    10 seeds, 10,000 items and 10,000 resamples, against milliseconds for ``paired_difference``.

    Args:
        a: scores of A, shape (S, N) or (S,), as for ``paired_difference``.
        b: scores of B.
        rng: source of all randomness; the same state gives the same interval.
        level: nominal coverage, in (0, 1).
        num_resamples: Monte-Carlo size.

    Returns:
        The interval; ``low`` and ``high`` are ``None`` with a ``reason`` below ``MIN_SEEDS``.

    Raises:
        InputError: if the arrays do not fit together, are empty or not finite.
    """
    scores_a, scores_b = _checks.paired(a, b)
    _checks.level(level)
    num_seeds = len(scores_a)
    num_items = scores_a.shape[1] if scores_a.ndim == 2 else None
    d = (scores_a - scores_b).reshape(num_seeds, -1)
    estimate = float(d.mean())
    factors = "seeds" if num_items is None else "seeds and items"
    method = f"BCa bootstrap over {factors}, expanded for {num_seeds} seeds"
    low = high = standard_error = reason = None
    if num_seeds < MIN_SEEDS:
        reason = f"{num_seeds} seeds: a bootstrap over fewer than {MIN_SEEDS} covers too little"
    else:
        resampled = resample_means(d, rng, num_resamples)
        standard_error = float(resampled.std(ddof=1))
        z = stats.t.ppf((1 + level) / 2, num_seeds - 1) * np.sqrt(num_seeds / (num_seeds - 1))
        low, high = bca_quantiles(resampled, estimate, acceleration(d), float(z))
    return BootstrapInterval(
        estimate,
        low,
        high,
        standard_error,
        level,
        num_seeds,
        num_items,
        num_resamples,
        method,
        reason,
    )


def resample_means(d: FloatArray, rng: np.random.Generator, num_resamples: int) -> FloatArray:
    """Return ``num_resamples`` means of ``d`` (S, N) with rows and columns drawn anew."""
    num_seeds, num_items = d.shape
    chunk = max(1, _CHUNK_WEIGHTS // num_items)
    means = []
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        seed_weights = draw_counts(rng, num_seeds, size)
        item_weights = draw_counts(rng, num_items, size) if num_items > 1 else np.ones((size, 1))
        means.append((seed_weights * (item_weights @ d.T)).sum(axis=1) / d.size)
    return np.concatenate(means)


def draw_counts(rng: np.random.Generator, num_values: int, size: int) -> FloatArray:
    """Return how often each of ``num_values`` is drawn in ``num_values`` draws: (size, values)."""
    drawn = rng.integers(num_values, size=(size, num_values))
    # One bincount for the whole chunk: row r counts in its own range of num_values bins.
    drawn += num_values * np.arange(size)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=size * num_values)
    return counts.reshape(size, num_values).astype(np.float64)


def acceleration(d: FloatArray) -> float:
    """Return the BCa acceleration of the mean of ``d`` (S, N); 0 if ``d`` is constant."""
    cubes = squares = 0.0
    for axis, size in ((1, d.shape[0]), (0, d.shape[1])):
        influence = d.mean(axis=axis) - d.mean()
        cubes += float((influence**3).sum()) / size**3
        squares += float((influence**2).sum()) / size**2
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def bca_quantiles(
    resampled: FloatArray, estimate: float, acceleration: float, z: float
) -> tuple[float, float]:
    """Return the BCa ends of the distribution ``resampled`` at -+ ``z`` normal deviations."""
    # Resamples that equal the estimate are rounded differently from it.
    tolerance = 1e-12 * float(np.abs(resampled).max())
    below = np.mean(resampled < estimate - tolerance)
    ties = np.mean(np.abs(resampled - estimate) <= tolerance)
    share = np.clip(below + ties / 2, 0.5 / len(resampled), 1 - 0.5 / len(resampled))
    bias = float(stats.norm.ppf(share))
    shifted = bias + np.array([-z, z])
    levels = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    low, high = np.quantile(resampled, levels)
    return float(low), float(high)
