"""Measured error rates of the intervals: false positives between equals, coverage of differences.

Shape letters: S stored seeds, n seeds of an experiment, N items, E experiments.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntpctp._core.errors import InputError
from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray
from ntpctp.statistics.difference import no_discordance_bound, t_intervals_of
from ntpctp.statistics.proportions import share

# E x N item weights are held at a time: 16 MB of float64.
_CHUNK_WEIGHTS = 2_000_000


@dataclass(frozen=True)
class Calibration:
    """A measured rate beside its nominal value."""

    rate: float
    low: float
    high: float
    """Upper end of the 95 % Clopper-Pearson interval. It covers the Monte-Carlo error alone: it
    narrows with ``num_experiments`` and is conditional on the stored runs."""
    nominal: float
    count: int
    num_experiments: int
    num_seeds: int  # seeds per simulated experiment
    num_stored: int
    """Stored seeds that the experiments are drawn from; they limit how well the rate is known."""
    method: str


def false_positive_rate(
    runs: ArrayLike,
    num_seeds: int,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    largest: float = math.inf,
    num_experiments: int = 1_000,
) -> Calibration:
    """Return how often two halves of *one* arm are called different: A/A experiments.

    Each experiment draws 2 ``num_seeds`` of the stored seeds without replacement in random order,
    calls the first half A and the second B, and checks whether the interval of
    ``paired_difference`` excludes 0. All seeds come from one arm, so every "better" is a false
    positive, and the expected rate is 1 - ``level``. The mean over all splits is a U-statistic, an
    unbiased estimate of the false-positive rate with new seeds. It rests on ``num_stored`` seeds
    only, an uncertainty that ``low`` and ``high`` do not cover: pool several arms and scores before
    judging.

    Cost: one product (S, N) x (N, S), then a cost per experiment that does not depend on N.
    ``runs`` are the scores of one arm, shape (S,) or (S, N), S >= 2 ``num_seeds`` >= 4;
    ``num_seeds`` is that of each half; ``level`` and ``largest`` are those of the intervals under
    test, as for ``paired_difference``.
    """
    scores = _checks.finite(runs, "runs", 1, 2)
    scores = scores.reshape(len(scores), -1)
    _checks.level(level)
    num_stored = len(scores)
    if num_seeds < 2 or num_stored < 2 * num_seeds:
        raise InputError(
            f"A/A with {num_seeds} seeds in each half needs num_seeds >= 2 and at least "
            f"{2 * num_seeds} stored seeds, got {num_stored}"
        )
    order = np.tile(np.arange(num_stored), (num_experiments, 1))
    drawn = rng.permuted(order, axis=1)[:, : 2 * num_seeds]
    a, b = drawn[:, :num_seeds], drawn[:, num_seeds:]
    intervals = _of_halves(scores, a, b, level, largest)
    # Without an interval, if all seeds agree, the exact sign-flip test decides.
    decidable = intervals.has_interval | (2.0 ** (1 - num_seeds) <= 1 - level)
    hits = int(np.count_nonzero(((intervals.low > 0) | (intervals.high < 0)) & decidable))
    method = "A/A: disjoint halves of the seeds of one arm, without replacement"
    return _result(hits, num_experiments, 1 - level, num_seeds, num_stored, method)


def _of_halves(
    scores: FloatArray, a: NDArray[np.intp], b: NDArray[np.intp], level: float, largest: float
) -> "_Intervals":
    """Return the intervals of seeds ``a`` minus seeds ``b``, (E, n) each, of ``scores`` (S, N)."""
    # The mean over seeds cancels in every difference; subtracting it reduces rounding errors.
    centred = scores - scores.mean(axis=0)
    means, gram = centred.mean(axis=1), centred @ centred.T

    def products(x: NDArray[np.intp], y: NDArray[np.intp]) -> FloatArray:
        return np.asarray(gram[x[:, :, None], y[:, None, :]])

    of_pairs = products(a, a) - products(a, b) - products(b, a) + products(b, b)
    size = float(np.ptp(scores))
    return _intervals(means[a] - means[b], of_pairs, scores.shape[1], level, largest, size)


def coverage(
    a: ArrayLike,
    b: ArrayLike,
    num_seeds: int,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    largest: float = math.inf,
    num_experiments: int = 1_000,
) -> Calibration:
    """Return how often the interval contains a known difference, on data drawn from stored runs.

    The stored runs serve as the whole population, so the true difference is known: mean of ``a``
    minus mean of ``b``. Each experiment draws ``num_seeds`` seeds and N items with replacement, the
    same in both arms, and checks whether the interval of ``paired_difference`` contains the true
    difference. Unlike a Gaussian simulation this keeps ties, skewness and collapsed seeds of the
    real scores. In a population of few stored seeds equal draws are frequent (3 draws from 5 seeds
    are equal once in 25), so the rate is lower than new seeds would give.

    Cost: one product (E, N) x (N, S (S + 1) / 2). ``a`` and ``b`` have the same shape, seeds and
    items; ``num_seeds``, at least 2, is that of each experiment; ``level`` and ``largest`` are
    those of the intervals under test, as for ``paired_difference``.
    """
    scores_a, scores_b = _checks.paired(a, b)
    _checks.level(level)
    if num_seeds < 2:
        raise InputError(f"num_seeds: an interval over seeds needs at least 2, got {num_seeds}")
    d = (scores_a - scores_b).reshape(len(scores_a), -1)
    truth = float(d.mean())
    num_stored, num_items = d.shape
    # A resample without any spread must not miss the truth by a rounding error.
    slack = 1e-12 * float(np.abs(d).max())
    hits, chunk = 0, max(1, _CHUNK_WEIGHTS // num_items)
    for start in range(0, num_experiments, chunk):
        count = min(chunk, num_experiments - start)
        seeds = rng.integers(num_stored, size=(count, num_seeds))
        weights = np.ones((count, 1)) if num_items == 1 else _draw_counts(rng, num_items, count)
        intervals = _of_draws(d, seeds, weights, level, largest)
        covered = (intervals.low - slack <= truth) & (truth <= intervals.high + slack)
        hits += int(np.count_nonzero(covered))
    method = "seeds and items drawn with replacement from the stored runs, their mean as truth"
    return _result(hits, num_experiments, level, num_seeds, num_stored, method)


def _of_draws(
    d: FloatArray, seeds: NDArray[np.int64], weights: FloatArray, level: float, largest: float
) -> "_Intervals":
    """Return the intervals of ``d`` (S, N) for drawn seeds (E, n) and item counts (E, N)."""
    num_stored, num_items = d.shape
    count, num_seeds = seeds.shape
    first, second = np.triu_indices(num_stored)
    pair = np.zeros((num_stored, num_stored), np.intp)
    pair[first, second] = pair[second, first] = np.arange(len(first))
    means = np.take_along_axis(weights @ d.T / num_items, seeds, axis=1)
    columns = pair[seeds[:, :, None], seeds[:, None, :]].reshape(count, -1)
    gram = np.take_along_axis(weights @ (d[first] * d[second]).T, columns, axis=1)
    size = float(np.abs(d).max())
    square = gram.reshape(count, num_seeds, num_seeds)
    return _intervals(means, square, num_items, level, largest, size)


class _Intervals(NamedTuple):
    low: FloatArray
    high: FloatArray
    has_interval: NDArray[np.bool_]


def _intervals(
    means: FloatArray, gram: FloatArray, num_items: int, level: float, largest: float, size: float
) -> _Intervals:
    """Return the intervals of ``paired_difference`` from inner products of the differences.

    ``means`` are the mean differences of each seed, (E, n); ``gram`` holds sums over the N items of
    products of two seeds' differences, (E, n, n); 1e-12 of ``size``, the magnitude of the scores,
    is treated as a rounding error. The ends, (E,), are not truncated at ``largest``, which never
    excludes the truth. If nothing varies and ``largest`` is infinite, both ends are the mean and
    ``has_interval`` is False.
    """
    num_seeds = means.shape[1]
    estimate = means.mean(axis=1)
    seed_squares = ((means - estimate[:, None]) ** 2).sum(axis=1)
    of_mean = num_items * estimate**2
    item_squares = gram.sum(axis=(1, 2)) / num_seeds**2 - of_mean
    squares = np.trace(gram, axis1=1, axis2=2) - num_seeds * of_mean
    rest = squares - num_items * seed_squares - num_seeds * item_squares
    seed_squares[seed_squares <= (1e-12 * size) ** 2] = 0
    # Sums of squares computed as differences of larger ones keep only half of the digits.
    rounding = num_seeds * num_items * 1e-15 * size**2
    item_squares[item_squares <= rounding] = 0
    rest[rest <= rounding] = 0
    seeds, shape = seed_squares / (num_seeds - 1) / num_seeds, (num_seeds, num_items)
    intervals = t_intervals_of(estimate, seeds, item_squares, rest, shape, level)
    equal = (seed_squares == 0) & (item_squares == 0) & (rest == 0)
    low, high = intervals.low, intervals.high
    if largest < math.inf:
        unlike = no_discordance_bound(num_items if num_items > 1 else num_seeds, level)
        low = np.where(equal, estimate - unlike * (largest + estimate), low)
        high = np.where(equal, estimate + unlike * (largest - estimate), high)
        equal = np.zeros_like(equal)
    # If all seeds are 0 up to rounding, 0 is not excluded.
    near = equal & (np.abs(estimate) <= 1e-12 * size)
    return _Intervals(np.where(near, 0.0, low), np.where(near, 0.0, high), ~equal)


def _result(
    hits: int, total: int, nominal: float, num_seeds: int, num_stored: int, method: str
) -> Calibration:
    rate = share(hits, total)
    measured = rate.estimate, rate.exact_low, rate.exact_high
    return Calibration(*measured, nominal, hits, total, num_seeds, num_stored, method)


def _draw_counts(rng: np.random.Generator, num_values: int, size: int) -> FloatArray:
    """Return how often each of ``num_values`` is drawn in ``num_values`` draws: (size, values)."""
    drawn = rng.integers(num_values, size=(size, num_values))
    # One bincount for the whole chunk: each row counts in its own range of num_values bins.
    drawn += num_values * np.arange(size)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=size * num_values)
    return counts.reshape(size, num_values).astype(np.float64)
