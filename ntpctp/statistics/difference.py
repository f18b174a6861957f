"""The paired difference between two arms, with an interval for new seeds and new items.

Shape letters: S seeds, N items.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ntpctp._core.errors import InputError
from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray
from ntpctp.statistics.permutation import sign_flip_test
from ntpctp.statistics.probability import win_probability


@dataclass(frozen=True)
class PairedDifference:
    """Arm A minus arm B, in the unit of the score. Numbers that cannot be computed are ``None``."""

    estimate: float  # mean of A minus mean of B
    low: float | None
    """Lower end of the interval for new seeds (and new items, if scores are per item)."""
    high: float | None
    largest: float | None
    """Upper bound of abs(A - B); the interval is truncated there. ``None``: no bound."""
    standard_error: float | None
    """Of the estimate, never truncated; power and the number of seeds needed derive from it."""
    degrees_of_freedom: float | None
    level: float  # nominal coverage of all intervals of this record
    p_value: float | None
    """Of the two-sided test that the interval inverts: below 1 - level exactly if 0 is outside.
    A t test; for differences without any spread see ``paired_difference``."""
    sign_flip_p_value: float | None
    """Exact paired permutation test over seeds, for these items; cannot be below 2 / 2^S."""
    num_seeds: int
    num_items: int | None  # ``None`` for scores that are one per seed
    seed_standard_deviation: float | None
    """Standard deviation over seeds of the per-seed difference, for these items."""
    item_variance: float
    """The part of standard_error^2 that more seeds cannot reduce: estimated variance of the
    items' own differences, divided by N. 0 for scores that are one per seed."""
    item_low: float | None
    """Lower end of the interval for *these* trained weights on new items: seeds held fixed."""
    item_high: float | None
    item_standard_error: float | None
    probability_a_better: float | None
    """P(new seed of A scores higher) + P(tie) / 2, for these items; see ``win_probability``."""
    probability_low: float | None
    probability_high: float | None
    method: str
    reason: str | None  # why ``low`` and ``high`` are ``None``; ``None`` if they are numbers


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


class TIntervals(NamedTuple):
    """Means with their intervals and the two independent parts of their variance, elementwise."""

    estimate: FloatArray
    low: FloatArray
    high: FloatArray
    standard_error: FloatArray
    degrees_of_freedom: FloatArray
    seed_variance: FloatArray
    item_variance: FloatArray


def t_intervals(d: FloatArray, level: float) -> TIntervals:
    """Return the means of ``d`` (..., S, N), S >= 2, and their intervals.

    The intervals of ``paired_difference`` for many data sets at once (simulations), without its
    truncation and without its special case for differences that do not vary.
    """
    num_seeds, num_items = d.shape[-2:]
    estimate = d.mean(axis=(-2, -1))
    by_seed, by_item = d.mean(axis=-1), d.mean(axis=-2)
    rest = d - by_seed[..., :, None] - by_item[..., None, :] + estimate[..., None, None]
    seeds, items = by_seed.var(axis=-1, ddof=1) / num_seeds, by_item.var(axis=-1) * num_items
    shape = num_seeds, num_items
    return t_intervals_of(estimate, seeds, items, (rest**2).sum(axis=(-2, -1)), shape, level)


def t_intervals_of(
    estimate: FloatArray,
    seeds: FloatArray,
    item_squares: FloatArray,
    rest_squares: FloatArray,
    shape: tuple[int, int],
    level: float,
) -> TIntervals:
    """Return the intervals of ``t_intervals`` from sums of squares; all arrays have one shape.

    ``seeds`` is the variance of the seeds' means (divisor S - 1) / S; ``item_squares`` the sum over
    the items of (item's mean - mean)^2; ``rest_squares`` that over seeds and items of the squared
    interaction residuals; ``shape`` is (S, N).
    """
    num_seeds, num_items = shape
    df = np.full(np.shape(estimate), num_seeds - 1.0)
    items = interaction = np.zeros(np.shape(estimate))
    if num_items > 1:
        interaction = rest_squares / ((num_seeds - 1) * (num_items - 1)) / (num_seeds * num_items)
        items = np.maximum(item_squares / (num_items - 1) / num_items - interaction, 0.0)
    total = seeds + items
    # The means of all seeds agree by chance, up to rounding, although their items differ. Unequal
    # means differ by at least 1 / N of one item, so by more than this tolerance.
    luck = (total <= 1e-20 * interaction) & (interaction > 0)
    # If nothing varies, the degrees of freedom of the items have no weight.
    usual = satterthwaite(np.where(total > 0, seeds, 1.0), items, df, max(num_items - 1.0, 1.0))
    df = np.where(luck, df * (num_items - 1.0), np.where(total > 0, usual, df))
    seeds = np.where(luck, interaction, seeds)
    error = np.sqrt(seeds + items)
    half_width = special.stdtrit(df, (1 + level) / 2) * error
    low, high = estimate - half_width, estimate + half_width
    return TIntervals(estimate, low, high, error, df, seeds, items)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    largest: float = math.inf,
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

    unbiased except for the truncation at 0 (Searle, Casella and McCulloch 1992). The interval is
    d_.. -+ t(df) SE with Satterthwaite's df of the two terms (df S-1 and N-1). It approaches the
    paired t interval over seeds if seeds dominate, and over items if items dominate. For scores
    that are one per seed it *is* the paired t interval, df = S - 1. If the means of all seeds agree
    by chance while their items differ, MS_e / (S N) with df (S-1)(N-1) replaces a variance that
    would be 0.

    If differences are known to be at most r (``largest``; 1 for shares), the interval is truncated
    to [-r, r]. The true difference lies in that range, so truncation does not change the coverage.
    ``standard_error`` is not truncated.

    If nothing varies, every d_sn being c, a t interval would have zero width for any data. With a
    known r the interval is [c - q (r + c), c + q (r - c)], q = ``no_discordance_bound`` of the
    number of items (of seeds, if scores are one per seed): by Clopper and Pearson at most a share q
    of other items differs from c, and by no more than r allows. For items this assumes that other
    seeds behave like these; with few seeds that is a strong assumption, which ``method`` states.
    The p value is (r / (r + abs(c)))^n, the level at which the interval just includes 0. Without a
    known r no interval exists, and the exact sign-flip test gives the p value: at 95 % it needs six
    seeds.

    Why not resample: the variance of the seeds-and-items bootstrap (Owen 2007, "The pigeonhole
    bootstrap") has a closed form, (MS_s + MS_i + MS_e) / (S N) after the corrections S/(S-1) and
    N/(N-1). It counts the interaction three times, so its intervals cover up to 99.9 %; its
    percentiles, without the corrections and without Student's quantiles, cover about 75 % at 3
    seeds.

    Measured coverage of the 95 % interval in percent (100 items, 4,000 simulations each, of
    which scripts/bench/intervals.py repeats the most telling, so
    -+ 0.7; in brackets the share of the variance of the mean at 5 seeds):

        seeds                                                  2      3      5     10
        Gaussian, seeds dominate (98 % seeds)               91.5   94.2   94.8   94.6
        Gaussian, items dominate (97 % items)               94.5   94.8   95.3   94.7
        Gaussian, seeds and items alike (49 %, 49 %)        90.3   93.6   94.8   94.7
        Gaussian, interaction only                          92.6   94.0   94.7   95.4
        binary, logit-normal seeds and items                90.0   93.5   94.8   95.2
        ... and a seed of B collapses with p = 0.2          83.1   83.9   80.2   88.9
        ... and a seed of B collapses with p = 0.4          75.8   79.8   90.0   93.4
        seeds alike, but one of B collapses with p = 0.2    64.8   52.7   66.0   88.6

    The last three rows show a limit of the data, not of the method: a collapse of probability 0.2
    is absent from 3 seeds half of the time (0.8^3), and then nothing in the data predicts that the
    fourth seed may collapse. Check ``spread`` and ``share_reaching`` before trusting a mean of few
    seeds. Scores are bool or float, shape (S, N) for scores per item or (S,) for one score per
    seed; entry (s, n) of both arms is the same seed and the same item. ``rng`` draws the sign
    vectors of the permutation test, used only if 2^S > ``num_resamples``. ``largest`` bounds abs(a
    - b), in one item as in the mean: 1 for scores between 0 and 1, infinity if unbounded; a larger
    difference raises ``InputError``. With one seed no interval over seeds exists: ``low`` and
    ``high`` are ``None`` and ``reason`` says so; ``item_low`` and ``item_high`` (paired t interval
    over items, seeds held fixed) then describe these trained weights on new items.
    """
    scores_a, scores_b = _checks.paired(a, b)
    _checks.level(level)
    per_item = scores_a.ndim == 2
    num_seeds = len(scores_a)
    d = (scores_a - scores_b).reshape(num_seeds, -1)
    observed = float(np.abs(d).max())
    if observed > largest * (1 + 1e-9):
        raise InputError(f"largest: expected no difference above {largest:g}, found {observed:g}")
    estimate = float(d.mean())
    item_error, item_low, item_high = _item_interval(d, estimate, level)
    # Equal differences may deviate by a rounding error of the scores.
    varies = _checks.varies(d, max(np.abs(scores_a).max(), np.abs(scores_b).max()))
    record = PairedDifference(
        estimate=estimate,
        low=None,
        high=None,
        largest=None if largest == math.inf else largest,
        standard_error=None,
        degrees_of_freedom=None,
        level=level,
        p_value=None,
        sign_flip_p_value=None,
        num_seeds=num_seeds,
        num_items=d.shape[1] if per_item else None,
        seed_standard_deviation=None,
        item_variance=0.0,
        item_low=None if item_low is None else max(item_low, -largest),
        item_high=None if item_high is None else min(item_high, largest),
        item_standard_error=item_error,
        probability_a_better=None,
        probability_low=None,
        probability_high=None,
        method="difference of one seed",
        reason="one seed: how much the difference varies from seed to seed is unknown",
    )
    if num_seeds == 1:
        return record
    a, b = (scores.reshape(num_seeds, -1).mean(axis=1) for scores in (scores_a, scores_b))
    win = win_probability(a, b, level)
    record = replace(
        record,
        sign_flip_p_value=sign_flip_test(d.mean(axis=1), rng, num_resamples).p_value,
        probability_a_better=win.estimate,
        probability_low=win.low,
        probability_high=win.high,
        reason=None,
    )
    return _with_interval(record, d) if varies else _without_spread(record)


def _with_interval(record: PairedDifference, d: FloatArray) -> PairedDifference:
    interval = t_intervals(d, record.level)
    error, df = float(interval.standard_error), float(interval.degrees_of_freedom)
    largest = math.inf if record.largest is None else record.largest
    low, high = float(interval.low), float(interval.high)
    words = _method(record.num_seeds, record.num_items, df)
    if low < -largest or high > largest:
        words += f"; cut at {largest:g}, the largest difference possible"
    return replace(
        record,
        low=max(low, -largest),
        high=min(high, largest),
        standard_error=error,
        degrees_of_freedom=df,
        p_value=float(2 * special.stdtr(df, -abs(record.estimate) / error)),
        # From the interaction if the seeds' means agree by chance: see ``t_intervals_of``.
        seed_standard_deviation=math.sqrt(float(interval.seed_variance) * record.num_seeds),
        item_variance=float(interval.item_variance),
        method=words,
    )


def _without_spread(record: PairedDifference) -> PairedDifference:
    c, r, level = record.estimate, record.largest, record.level
    record = replace(
        record,
        standard_error=0.0,
        degrees_of_freedom=record.num_seeds - 1.0,
        seed_standard_deviation=0.0,
        item_low=None,
        item_high=None,
        item_standard_error=None,
    )
    if r is None:
        words = "exact sign-flip test: all differences are equal"
        reason = (
            f"all {record.num_seeds} seeds show the same difference: no spread from which an "
            "interval could be computed"
        )
        return replace(record, p_value=record.sign_flip_p_value, method=words, reason=reason)
    count = record.num_items or record.num_seeds
    unlike = no_discordance_bound(count, level)
    low, high = c - unlike * (r + c), c + unlike * (r - c)
    record = replace(record, low=low, high=high, p_value=(r / (r + abs(c))) ** count)
    if record.num_items is None:
        words = "all seeds show the same difference: exact binomial bound on others"
        return replace(record, method=words)
    # More seeds can reduce none of this width.
    width = unlike * (r + abs(c)) / float(special.stdtrit(max(count - 1, 1), (1 + level) / 2))
    bound = "exact binomial bound on how many others"
    words = f"all items differ alike in all seeds: {bound} do not"
    if c == 0:
        words = f"no item differs in any seed: {bound} could"
    words += "; other seeds are taken to be like these"
    return replace(record, item_variance=width**2, item_low=low, item_high=high, method=words)


def no_discordance_bound(num_items: int, level: float) -> float:
    """Return an upper bound of the share of deviating items, given ``num_items`` without any.

    The p at which (1 - p)^N = 1 - level, Clopper and Pearson's one-sided bound at a count of 0 (at
    95 % about 3 / N). A bootstrap or t interval would have zero width here for any N.
    """
    return float(-np.expm1(np.log1p(-level) / num_items))


def _item_interval(
    d: FloatArray, estimate: float, level: float
) -> tuple[float | None, float | None, float | None]:
    """Return standard error, low and high of the paired t interval over items, seeds fixed."""
    if d.shape[1] < 2:
        return None, None, None
    error = float(d.mean(axis=0).std(ddof=1) / np.sqrt(d.shape[1]))
    half_width = float(special.stdtrit(d.shape[1] - 1, (1 + level) / 2)) * error
    return error, estimate - half_width, estimate + half_width


def _method(num_seeds: int, num_items: int | None, df: float) -> str:
    if num_items is None:
        words = f"paired t interval over {num_seeds} seeds"
    elif num_items == 1:
        words = f"paired t interval over {num_seeds} seeds; 1 item: nothing covers other items"
    else:
        words = f"t interval over {num_seeds} seeds and {num_items} items, crossed random effects"
    return f"{words}, {df:.1f} degrees of freedom"
