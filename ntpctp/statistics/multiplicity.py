"""Many comparisons: Holm's correction, and all pairs of arms at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from ntpctp._core.errors import InputError
from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray
from ntpctp.statistics.difference import PairedDifference, paired_difference


def holm(p_values: ArrayLike) -> FloatArray:
    """Return p values adjusted by Holm's step-down procedure, in the order given.

    With the m values sorted, p_(1) <= ... <= p_(m), the adjusted one is
    max_{j <= i} min(1, (m - j + 1) p_(j)) (Holm 1979). Rejecting where it is at most alpha keeps
    the probability of any false rejection at alpha under every dependence.

    Args:
        p_values: float, shape (m,), each in [0, 1].

    Raises:
        InputError: if a value is NaN or outside [0, 1], or there is none.
    """
    p = _checks.finite(p_values, "p_values", 1)
    if p.min() < 0 or p.max() > 1:
        raise InputError(f"p_values: expected values in [0, 1], got {p.min():g} to {p.max():g}")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def holm_of_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Return what ``holm`` makes of those p values that are known; ``None`` stays ``None``.

    What cannot be tested is no test, so it does not count among them.

    >>> holm_of_known([0.01, None, 0.03])
    [0.02, None, 0.03]
    """
    known = [p for p in p_values if p is not None]
    adjusted = iter(holm(known).tolist() if known else [])
    return [None if p is None else next(adjusted) for p in p_values]


@dataclass(frozen=True)
class PairOfArms:
    """One pair of several arms: difference of the first minus the second."""

    names: tuple[str, str]
    difference: PairedDifference
    holm_p_value: float | None
    """``difference.p_value`` adjusted for the number of pairs; ``None`` where that is."""


def all_pairs(
    scores: Mapping[str, ArrayLike],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    largest: float = math.inf,
    num_resamples: int = 10_000,
) -> tuple[PairOfArms, ...]:
    """Return ``paired_difference`` of every pair of arms, in the order of ``scores``.

    The K (K - 1) / 2 p values are adjusted together by ``holm``; the intervals are not: each
    covers with ``level`` by itself. Cost: one ``paired_difference`` a pair; one pair's
    (S, N) differences are in memory at a time.

    Args:
        scores: name of the arm -> scores, shape (S, N) or (S,), the same for all arms.
        rng: as for ``paired_difference``.
        level: nominal coverage of each interval, in (0, 1).
        largest: as for ``paired_difference``.
        num_resamples: as for ``paired_difference``.

    Raises:
        InputError: if there are fewer than two arms or ``paired_difference`` refuses a pair.
    """
    if len(scores) < 2:
        raise InputError(f"expected at least two arms to compare, got {len(scores)}")
    pairs = list(combinations(scores, 2))
    found = [
        paired_difference(
            scores[first],
            scores[second],
            rng,
            level=level,
            largest=largest,
            num_resamples=num_resamples,
        )
        for first, second in pairs
    ]
    # All arms have the same seeds, so either every pair has a p value or none has.
    known = [difference.p_value for difference in found if difference.p_value is not None]
    adjusted: list[float | None] = [float(p) for p in holm(known)] if known else [None] * len(found)
    return tuple(
        PairOfArms(names, difference, p)
        for names, difference, p in zip(pairs, found, adjusted, strict=True)
    )
