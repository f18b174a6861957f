"""Whether the machine is honest: false positives where nothing differs, coverage where it does."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ntpctp.errors import InputError
from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray
from ntpctp.statistics.difference import t_interval
from ntpctp.statistics.proportions import share


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
    num_experiments: int = 1_000,
) -> Calibration:
    """Return how often two halves of *one* arm are called different: an A/A experiment.

    Each experiment draws 2 ``num_seeds`` of the stored seeds without replacement, at random order,
    calls the first half A and the second B, and asks whether the interval of
    ``paired_difference`` excludes 0. All seeds come from one arm, so every "better" is false; the
    expected rate is 1 - ``level``. The mean over all splits is a U-statistic, an unbiased
    estimate of the false-positive rate with new seeds; but it rests on ``num_stored`` seeds only,
    which ``low`` and ``high`` do not cover: join several arms and measures before a judgement.

    Args:
        runs: scores of one arm, shape (S,) or (S, N), S >= 2 ``num_seeds``.
        num_seeds: seeds in each half, at least 2.
        rng: source of all randomness.
        level: of the intervals under test, in (0, 1).
        num_experiments: Monte-Carlo size; one ``t_interval`` each.

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
    hits = 0
    for _ in range(num_experiments):
        drawn = rng.permutation(num_stored)[: 2 * num_seeds]
        d = scores[drawn[:num_seeds]] - scores[drawn[num_seeds:]]
        interval = t_interval(d, level)
        hits += interval.low > 0 or interval.high < 0
    method = "A/A: disjoint halves of the seeds of one arm, without replacement"
    return _result(hits, num_experiments, 1 - level, num_seeds, num_stored, method)


def coverage(
    a: ArrayLike,
    b: ArrayLike,
    num_seeds: int,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    num_experiments: int = 1_000,
) -> Calibration:
    """Return how often the interval holds a difference that is known, on data like the stored.

    The stored runs are taken as the whole population, so that the true difference is known: mean
    of ``a`` minus mean of ``b``. Each experiment draws ``num_seeds`` seeds and as many items as
    there are, with replacement, the same in both arms, and asks whether the interval of
    ``paired_difference`` holds the truth. Unlike a Gaussian simulation this keeps ties, skewness
    and collapsed seeds of the real scores. A population of few stored seeds is lumpy (of 5 seeds,
    3 draws are equal once in 25), so the rate errs on the low side of what new seeds would give.

    Args:
        a: scores of A, shape (S,) or (S, N).
        b: scores of B, of the same shape, seeds and items.
        num_seeds: seeds of each experiment, at least 2.
        rng: source of all randomness.
        level: of the intervals under test, in (0, 1).
        num_experiments: Monte-Carlo size; one ``t_interval`` of (num_seeds, N) each.

    Raises:
        InputError: if ``num_seeds`` < 2, or the arrays do not fit, are empty or not finite.
    """
    scores_a, scores_b = _checks.paired(a, b)
    _checks.level(level)
    if num_seeds < 2:
        raise InputError(f"num_seeds: an interval over seeds needs at least 2, got {num_seeds}")
    d = _by_item(scores_a - scores_b)
    truth = float(d.mean())
    # A resample that happens to have no spread must not miss the truth by a rounding error.
    slack = 1e-12 * float(np.abs(d).max())
    num_stored, num_items = d.shape
    hits = 0
    for _ in range(num_experiments):
        seeds = rng.integers(num_stored, size=num_seeds)
        items = rng.integers(num_items, size=num_items) if num_items > 1 else np.zeros(1, int)
        interval = t_interval(d[np.ix_(seeds, items)], level)
        hits += interval.low - slack <= truth <= interval.high + slack
    method = "seeds and items drawn with replacement from the stored runs, their mean as truth"
    return _result(hits, num_experiments, level, num_seeds, num_stored, method)


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
