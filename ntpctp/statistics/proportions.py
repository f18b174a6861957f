"""Counts: the share of seeds that reach a target, and items on which two arms disagree."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from ntpctp._core.errors import InputError
from ntpctp.statistics import _checks


@dataclass(frozen=True)
class Share:
    """A share, a count out of a total, with the intervals of ``share``, all in [0, 1]."""

    count: int
    total: int
    estimate: float
    wilson_low: float
    wilson_high: float
    exact_low: float
    exact_high: float


def share(count: int, total: int, level: float = 0.95) -> Share:
    """Return ``count`` / ``total`` with the intervals of Wilson and of Clopper and Pearson.

    Wilson (1927, without continuity correction) covers the nominal level on average; Clopper and
    Pearson (1934, "exact") never covers less; quote it for few seeds.
    """
    _checks.level(level)
    if not 0 <= count <= total or total < 1:
        raise InputError(f"expected 0 <= count <= total and total >= 1, got {count} of {total}")
    test = stats.binomtest(count, total)
    wilson = test.proportion_ci(level, method="wilson")
    exact = test.proportion_ci(level, method="exact")
    ends = map(float, (wilson.low, wilson.high, exact.low, exact.high))
    return Share(count, total, count / total, *ends)


def share_reaching(
    values: ArrayLike, target: float, *, higher_is_better: bool, level: float = 0.95
) -> Share:
    """Return the share of seeds whose score reaches the target.

    ``values`` are (S,), one score per seed; reached means >= ``target`` if ``higher_is_better``,
    otherwise <=.
    """
    x = _checks.finite(values, "values", 1)
    reached = x >= target if higher_is_better else x <= target
    return share(int(reached.sum()), len(x), level)


class McNemar(NamedTuple):
    """The items that only A or only B solves in one seed, and the exact test of equality."""

    num_only_a: int
    num_only_b: int
    num_items: int
    p_value: float


def mcnemar(correct_a: ArrayLike, correct_b: ArrayLike) -> tuple[McNemar, ...]:
    """Return McNemar's exact test for every seed: are A's and B's trained weights equally accurate?

    Of the n items that exactly one arm solves, the number that A solves is binomial (n, 1/2) under
    the null hypothesis (McNemar 1947; exact two-sided binomial test, p = 1 if n = 0). The test
    generalises to new items, not to new seeds: S significant seeds do not make the difference
    between two objectives significant. ``correct_a`` and ``correct_b`` are bool (or 0 and 1), shape
    (S, N); entry (s, n) of both is the same seed and item.
    """
    a, b = _checks.paired(correct_a, correct_b)
    if a.ndim != 2:
        raise InputError(f"McNemar: expected (seeds, items) arrays, got shape {a.shape}")
    if not (((a == 0) | (a == 1)).all() and ((b == 0) | (b == 1)).all()):
        raise InputError("McNemar: expected right or wrong (1 or 0) for every item")
    only_a, only_b = (a > b).sum(axis=1), (b > a).sum(axis=1)
    # The binomial with probability 1/2 is symmetric: twice the smaller tail.
    tail = special.bdtr(np.minimum(only_a, only_b), only_a + only_b, 0.5)
    return tuple(
        McNemar(int(x), int(y), a.shape[1], float(p))
        for x, y, p in zip(only_a, only_b, np.minimum(2 * tail, 1), strict=True)
    )
