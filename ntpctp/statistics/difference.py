"""The difference between two arms, with an interval that covers new seeds and new items.

Shape letters: S seeds, N items.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray
from ntpctp.statistics.permutation import sign_flip_test
from ntpctp.statistics.probability import win_probability


@dataclass(frozen=True)
class PairedDifference:
    """Arm A minus arm B, in the unit of the score. ``None`` where a number cannot be computed."""

    estimate: float
    """Mean of A minus mean of B."""
    low: float | None
    """Lower end of the interval over new seeds (and new items, where there are items)."""
    high: float | None
    standard_error: float | None
    degrees_of_freedom: float | None
    level: float
    """Nominal coverage of all intervals of this record."""
    p_value: float | None
    """Two-sided t test that belongs to the interval: below 1 - level exactly if 0 is outside."""
    sign_flip_p_value: float | None
    """Exact paired permutation test over seeds, for these items; cannot be below 2 / 2^S."""
    num_seeds: int
    num_items: int | None
    """``None`` for one score a seed."""
    seed_standard_deviation: float | None
    """Standard deviation over seeds of the per-seed difference, for these items."""
    item_variance: float
    """The part of standard_error^2 that more seeds cannot reduce: estimated variance of the
    items' own differences, divided by N. 0 for one score a seed."""
    item_low: float | None
    """Lower end of the interval for *these* trained weights on new items: seeds held fixed."""
    item_high: float | None
    item_standard_error: float | None
    probability_a_better: float | None
    """P(new seed of A has the larger score) + P(tie) / 2, for these items; see win_probability."""
    probability_low: float | None
    probability_high: float | None
    method: str
    reason: str | None
    """Why ``low`` and ``high`` are ``None``; otherwise ``None``."""


def satterthwaite(
    seeds: float | FloatArray,
    items: float | FloatArray,
    seed_df: float | FloatArray,
    item_df: float | FloatArray,
) -> FloatArray:
    """Return the degrees of freedom of ``seeds + items``, two independent variance estimates.

    (x + y)^2 / (x^2 / df_x + y^2 / df_y), Satterthwaite (1946); computed from the
    shares of the sum, so that very small variances do not underflow. The sum must be positive.
    """
    share = np.asarray(seeds, dtype=np.float64) / (np.asarray(seeds) + np.asarray(items))
    return np.asarray(1 / (share**2 / seed_df + (1 - share) ** 2 / item_df), dtype=np.float64)


class TInterval(NamedTuple):
    """A mean with its interval, and the two independent parts of its variance."""

    estimate: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float
    seed_variance: float
    item_variance: float


def t_interval(d: FloatArray, level: float) -> TInterval:
    """Return the mean of ``d`` (S, N), S >= 2, and its interval: see ``paired_difference``."""
    num_seeds, num_items = d.shape
    estimate = float(d.mean())
    by_seed, by_item = d.mean(axis=1), d.mean(axis=0)
    seeds, items, interaction = float(by_seed.var(ddof=1)) / num_seeds, 0.0, 0.0
    if num_items > 1:
        residual = d - by_seed[:, None] - by_item + estimate
        interaction = float((residual**2).sum() / ((num_seeds - 1) * (num_items - 1)) / d.size)
        items = max(float(by_item.var(ddof=1) / num_items - interaction), 0.0)
    total = seeds + items
    # Without items or any spread the second degrees of freedom have no weight.
    df = num_seeds - 1.0
    if total == 0 and interaction > 0:
        # The means of all seeds are equal although their items are not: what is left is luck.
        seeds = total = interaction
        df *= num_items - 1.0
    elif total > 0:
        df = float(satterthwaite(seeds, items, df, max(num_items - 1.0, 1.0)))
    error = math.sqrt(total)
    half_width = float(special.stdtrit(df, (1 + level) / 2)) * error
    return TInterval(
        estimate, estimate - half_width, estimate + half_width, error, df, seeds, items
    )


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    item_range: float | None = None,
    num_resamples: int = 10_000,
) -> PairedDifference:
    """Return the mean of A minus the mean of B, with a t interval over seeds and items.

    Let d_sn = a_sn - b_sn follow the two-way crossed random-effects model
    d_sn = mu + u_s + v_n + e_sn. The mean has variance
    Var = sigma_u^2 / S + sigma_v^2 / N + sigma_e^2 / (S N). With the mean squares

        MS_s = N / (S-1) sum_s (d_s. - d_..)^2,      MS_i = S / (N-1) sum_n (d_.n - d_..)^2,
        MS_e = sum_sn (d_sn - d_s. - d_.n + d_..)^2 / ((S-1)(N-1))

    it is estimated by

        SE^2 = [MS_s + max(MS_i - MS_e, 0)] / (S N),

    unbiased but for the cut at 0 (Searle, Casella and McCulloch 1992), and the interval is d_..
    -+ t(df) SE with Satterthwaite's df of the two terms (df S-1 and N-1). It goes over into the
    ordinary paired t interval over seeds where seeds dominate, and over items where items do. For
    one score a seed it *is* the paired t interval, df = S - 1. Where the means of all seeds happen
    to be equal although different items differ, MS_e / (S N) with df (S-1)(N-1) stands in for a
    variance that would be 0. Where all scores lie between 0 and 1 and no item differs in any seed,
    the interval is -+ ``no_discordance_bound`` instead.

    Why not resample: the variance of the seeds-and-items bootstrap (Owen 2007, "The pigeonhole
    bootstrap") has a closed form, (MS_s + MS_i + MS_e) / (S N) after the corrections S/(S-1) and
    N/(N-1). It counts the interaction three times, so its intervals cover up to 99.9 %; its
    percentiles, without the corrections and without Student's quantiles, cover about 75 % at 3
    seeds. ``bootstrap_interval`` gives that interval from the number of seeds where it holds.

    Measured coverage of the 95 % interval in percent (100 items, 4,000 simulations each, so
    -+ 0.7; share of the variance of the mean at 5 seeds in brackets):

        seeds                                                  2      3      5     10
        Gaussian, seeds dominate (98 % seeds)               91.5   94.2   94.8   94.6
        Gaussian, items dominate (97 % items)               94.5   94.8   95.3   94.7
        Gaussian, seeds and items alike (49 %, 49 %)        90.3   93.6   94.8   94.7
        Gaussian, interaction only                          92.6   94.0   94.7   95.4
        binary, logit-normal seeds and items                90.0   93.5   94.8   95.2
        ... and a seed of B collapses with p = 0.2          83.1   83.9   80.2   88.9
        ... and a seed of B collapses with p = 0.4          75.8   79.8   90.0   93.4
        seeds alike, but one of B collapses with p = 0.2    64.8   52.7   66.0   88.6

    The last three rows are a limit of the data, not of the construction: 3 seeds show no collapse
    of probability 0.2 half of the time (0.8^3), and then cannot tell that the fourth may. Look at
    ``spread`` and ``share_reaching`` before trusting a mean of few seeds.

    Args:
        a: scores of A, bool or float, shape (S, N) for item-level scores or (S,) for one score
            a seed.
        b: scores of B in the same unit; entry (s, n) of both is the same seed and the same item.
        rng: random sign vectors of the permutation test; used only if 2^S > ``num_resamples``.
        level: nominal coverage, in (0, 1).
        item_range: by how much the scores of an item can differ between A and B, infinity if
            there is no bound; None: by 1 if all scores lie between 0 and 1, else without bound.
        num_resamples: arrangements of the permutation test.

    Returns:
        The record. With one seed no interval over seeds exists: ``low``, ``high`` are ``None``
        and ``reason`` says so, while ``item_low``, ``item_high`` (paired t interval over items,
        seeds held fixed) say what the trained weights at hand do on new items.

    Raises:
        InputError: if shapes differ or are empty, a value is NaN or infinite, or ``level`` is
            not in (0, 1).
    """
    scores_a, scores_b = _checks.paired(a, b)
    _checks.level(level)
    per_item = scores_a.ndim == 2
    num_seeds = len(scores_a)
    num_items = scores_a.shape[1] if per_item else None
    d = (scores_a - scores_b).reshape(num_seeds, -1)
    estimate = float(d.mean())
    item_error, item_low, item_high = _item_interval(d, estimate, level)

    if num_seeds == 1:
        return PairedDifference(
            estimate=estimate,
            low=None,
            high=None,
            standard_error=None,
            degrees_of_freedom=None,
            level=level,
            p_value=None,
            sign_flip_p_value=None,
            num_seeds=1,
            num_items=num_items,
            seed_standard_deviation=None,
            item_variance=0.0,
            item_low=item_low,
            item_high=item_high,
            item_standard_error=item_error,
            probability_a_better=None,
            probability_low=None,
            probability_high=None,
            method="difference of one seed",
            reason="one seed: how much the difference varies from seed to seed is unknown",
        )

    interval = t_interval(d, level)
    error, df = interval.standard_error, interval.degrees_of_freedom
    if error > 0:
        p_value = float(2 * special.stdtr(df, -abs(estimate) / error))
    else:
        p_value = 1.0 if estimate == 0 else 0.0
    win = win_probability(
        scores_a.reshape(num_seeds, -1).mean(axis=1),
        scores_b.reshape(num_seeds, -1).mean(axis=1),
        level,
    )
    low, high, item_variance = interval.low, interval.high, interval.item_variance
    method = _method(num_seeds, num_items, df, error)
    if item_range is None:
        shares = all(s.min() >= 0 and s.max() <= 1 for s in (scores_a, scores_b))
        item_range = 1.0 if shares else math.inf
    if per_item and item_range < math.inf and not d.any():
        high = item_range * no_discordance_bound(d.shape[1], level)
        low = -high
        # What more seeds cannot reduce is then all of it.
        item_variance = (
            high / float(special.stdtrit(max(d.shape[1] - 1.0, 1.0), (1 + level) / 2))
        ) ** 2
        method = "no item differs in any seed: exact binomial bound on how many others could"
    return PairedDifference(
        estimate=estimate,
        low=low,
        high=high,
        standard_error=error,
        degrees_of_freedom=df,
        level=level,
        p_value=p_value,
        sign_flip_p_value=sign_flip_test(d.mean(axis=1), rng, num_resamples).p_value,
        num_seeds=num_seeds,
        num_items=num_items,
        # Of their luck where the seeds' means are equal by luck.
        seed_standard_deviation=math.sqrt(interval.seed_variance * num_seeds),
        item_variance=item_variance,
        item_low=item_low,
        item_high=item_high,
        item_standard_error=item_error,
        probability_a_better=win.estimate,
        probability_low=win.low,
        probability_high=win.high,
        method=method,
        reason=None,
    )


def no_discordance_bound(num_items: int, level: float) -> float:
    """Return the largest share of items that may differ when none of ``num_items`` did.

    The p at which (1 - p)^N = 1 - level, Clopper and Pearson's one-sided bound at a count of 0 (at
    95 % about 3 / N). For scores between 0 and 1 the difference of the means is no larger. A
    bootstrap or t interval would have no width here, whatever N.
    """
    return float(-np.expm1(np.log1p(-level) / num_items))


def _item_interval(
    d: FloatArray, estimate: float, level: float
) -> tuple[float | None, float | None, float | None]:
    """Return standard error, low and high of the paired t interval over items, seeds fixed."""
    num_items = d.shape[1]
    if num_items < 2:
        return None, None, None
    error = float(d.mean(axis=0).std(ddof=1) / np.sqrt(num_items))
    half_width = float(special.stdtrit(num_items - 1.0, (1 + level) / 2)) * error
    return error, estimate - half_width, estimate + half_width


def _method(num_seeds: int, num_items: int | None, df: float, error: float) -> str:
    if num_items is None:
        words = f"paired t interval over {num_seeds} seeds"
    elif num_items == 1:
        words = f"paired t interval over {num_seeds} seeds; 1 item: nothing covers other items"
    else:
        words = f"t interval over {num_seeds} seeds and {num_items} items, crossed random effects"
    words += f", {df:.1f} degrees of freedom"
    if error == 0:
        words += "; all differences are equal, so the interval has no width and says too much"
    return words
