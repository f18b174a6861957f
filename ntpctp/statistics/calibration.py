"""Whether the machine is honest: false positives where nothing differs, coverage where it does.

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
    """A measured rate beside the one it should be."""

    rate: float
    low: float
    high: float
    """Clopper-Pearson interval at 95 % for the Monte-Carlo error: it narrows with
    ``num_experiments`` and holds for *these* stored runs."""
    nominal: float
    count: int
    num_experiments: int
    num_seeds: int
    """Seeds of each simulated experiment."""
    num_stored: int
    """Seeds that the experiments were drawn from: the real limit of what is learned here."""
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
    """Return how often two halves of *one* arm are called different: an A/A experiment.

    Each experiment draws 2 ``num_seeds`` of the stored seeds without replacement, at random order,
    calls the first half A and the second B, and asks whether ``paired_difference`` would exclude 0.
    All seeds come from one arm, so every "better" is false; the
    expected rate is 1 - ``level``. The mean over all splits is a U-statistic, an unbiased
    estimate of the false-positive rate with new seeds; but it rests on ``num_stored`` seeds only,
    which ``low`` and ``high`` do not cover: join several arms and measures before a judgement.

    Cost: one product (S, N) x (N, S); the experiments need its entries alone, whatever N.

    Args:
        runs: scores of one arm, shape (S,) or (S, N), S >= 2 ``num_seeds``.
        num_seeds: seeds in each half, at least 2.
        rng: source of all randomness.
        level: of the intervals under test, in (0, 1).
        largest: as for ``paired_difference``.
        num_experiments: Monte-Carlo size.

    Raises:
        InputError: if there are too few stored seeds, or ``runs`` is empty or not finite.
    """
    scores = _by_item(_checks.finite(runs, "runs", 1, 2))
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
    found = _of_halves(scores, a, b, level, largest)
    # Without an interval the exact sign-flip test of seeds that agree decides.
    sure = found.has_interval | (2.0 ** (1 - num_seeds) <= 1 - level)
    hits = int(np.count_nonzero(((found.low > 0) | (found.high < 0)) & sure))
    method = "A/A: disjoint halves of the seeds of one arm, without replacement"
    return _result(hits, num_experiments, 1 - level, num_seeds, num_stored, method)


def _of_halves(
    scores: FloatArray, a: NDArray[np.intp], b: NDArray[np.intp], level: float, largest: float
) -> "_Intervals":
    """Return the intervals of seeds ``a`` minus seeds ``b``, (E, n) each, of ``scores`` (S, N)."""
    # What all seeds have in common is in no difference; without it less is lost to rounding.
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
    """Return how often the interval holds a difference that is known, on data like the stored.

    The stored runs are taken as the whole population, so that the true difference is known: mean
    of ``a`` minus mean of ``b``. Each experiment draws ``num_seeds`` seeds and as many items as
    there are, with replacement, the same in both arms, and asks whether the interval of
    ``paired_difference`` holds the truth. Unlike a Gaussian simulation this keeps ties, skewness
    and collapsed seeds of the real scores. A population of few stored seeds is lumpy (of 5 seeds,
    3 draws are equal once in 25), so the rate errs on the low side of what new seeds would give.

    Cost: one product (E, N) x (N, S (S + 1) / 2).

    Args:
        a: scores of A, shape (S,) or (S, N).
        b: scores of B, of the same shape, seeds and items.
        num_seeds: seeds of each experiment, at least 2.
        rng: source of all randomness.
        level: of the intervals under test, in (0, 1).
        largest: as for ``paired_difference``.
        num_experiments: Monte-Carlo size.

    Raises:
        InputError: if ``num_seeds`` < 2, or the arrays do not fit, are empty or not finite.
    """
    scores_a, scores_b = _checks.paired(a, b)
    _checks.level(level)
    if num_seeds < 2:
        raise InputError(f"num_seeds: an interval over seeds needs at least 2, got {num_seeds}")
    d = _by_item(scores_a - scores_b)
    truth = float(d.mean())
    num_stored, num_items = d.shape
    # A resample that happens to have no spread must not miss the truth by a rounding error.
    slack = 1e-12 * float(np.abs(d).max())
    hits, chunk = 0, max(1, _CHUNK_WEIGHTS // num_items)
    for start in range(0, num_experiments, chunk):
        count = min(chunk, num_experiments - start)
        seeds = rng.integers(num_stored, size=(count, num_seeds))
        weights = np.ones((count, 1)) if num_items == 1 else _draw_counts(rng, num_items, count)
        found = _of_draws(d, seeds, weights, level, largest)
        held = (found.low - slack <= truth) & (truth <= found.high + slack)
        hits += int(np.count_nonzero(held))
    method = "seeds and items drawn with replacement from the stored runs, their mean as truth"
    return _result(hits, num_experiments, level, num_seeds, num_stored, method)


def _of_draws(
    d: FloatArray, seeds: NDArray[np.int64], weights: FloatArray, level: float, largest: float
) -> "_Intervals":
    """Return the intervals of ``d`` (S, N) with seeds (E, n) and items drawn so often: (E, N)."""
    num_stored, num_items = d.shape
    count, num_seeds = seeds.shape
    first, second = np.triu_indices(num_stored)
    pair = np.zeros((num_stored, num_stored), np.intp)
    pair[first, second] = pair[second, first] = np.arange(len(first))
    means = np.take_along_axis(weights @ d.T / num_items, seeds, axis=1)
    places = pair[seeds[:, :, None], seeds[:, None, :]].reshape(count, -1)
    gram = np.take_along_axis(weights @ (d[first] * d[second]).T, places, axis=1)
    size = float(np.abs(d).max())
    square = gram.reshape(count, num_seeds, num_seeds)
    return _intervals(means, square, num_items, level, largest, size)


class _Intervals(NamedTuple):
    low: FloatArray
    high: FloatArray
    has_interval: NDArray[np.bool_]


def _intervals(
    means: FloatArray,
    gram: FloatArray,
    num_items: int,
    level: float,
    largest: float,
    size: float,
) -> _Intervals:
    """Return the intervals of ``paired_difference`` from products of its differences.

    Args:
        means: of the differences of each seed, (E, n).
        gram: sums over items of products of two seeds' differences, (E, n, n).
        num_items: N.
        level: nominal.
        largest: as for ``paired_difference``.
        size: of the scores: what is smaller by 1e-12 is rounding.

    Returns:
        Ends, (E,) each, not cut at ``largest``: the truth is never beyond it. Where nothing varies
        and there is no bound, both are the mean and ``has_interval`` is False.
    """
    num_seeds = means.shape[1]
    estimate = means.mean(axis=1)
    seed_squares = ((means - estimate[:, None]) ** 2).sum(axis=1)
    of_mean = num_items * estimate**2
    item_squares = gram.sum(axis=(1, 2)) / num_seeds**2 - of_mean
    squares = np.trace(gram, axis1=1, axis2=2) - num_seeds * of_mean
    rest = squares - num_items * seed_squares - num_seeds * item_squares
    none = (1e-12 * size) ** 2
    # Sums of squares that are differences of larger ones keep half of the digits.
    seed_squares[seed_squares <= none] = 0
    lost = num_seeds * num_items * 1e-15 * size**2
    item_squares[item_squares <= lost] = 0
    rest[rest <= lost] = 0
    found = t_intervals_of(
        estimate,
        seed_squares / (num_seeds - 1) / num_seeds,
        item_squares,
        rest,
        (num_seeds, num_items),
        level,
    )
    equal = (seed_squares == 0) & (item_squares == 0) & (rest == 0)
    low, high = found.low, found.high
    if largest < math.inf:
        others = no_discordance_bound(num_items if num_items > 1 else num_seeds, level)
        low = np.where(equal, estimate - others * (largest + estimate), low)
        high = np.where(equal, estimate + others * (largest - estimate), high)
        equal = np.zeros_like(equal)
    # All seeds equal to 0 up to rounding are no hit.
    near = equal & (np.abs(estimate) <= 1e-12 * size)
    return _Intervals(np.where(near, 0.0, low), np.where(near, 0.0, high), ~equal)


def _by_item(scores: FloatArray) -> FloatArray:
    return scores.reshape(len(scores), -1)


def _result(
    hits: int, total: int, nominal: float, num_seeds: int, num_stored: int, method: str
) -> Calibration:
    found = share(int(hits), total)
    return Calibration(
        found.estimate,
        found.exact_low,
        found.exact_high,
        nominal,
        found.count,
        total,
        num_seeds,
        num_stored,
        method,
    )


def _draw_counts(rng: np.random.Generator, num_values: int, size: int) -> FloatArray:
    """Return how often each of ``num_values`` is drawn in ``num_values`` draws: (size, values)."""
    drawn = rng.integers(num_values, size=(size, num_values))
    # One bincount for the whole chunk: row r counts in its own range of num_values bins.
    drawn += num_values * np.arange(size)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=size * num_values)
    return counts.reshape(size, num_values).astype(np.float64)
