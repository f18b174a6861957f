"""The verdict in fixed words, and the size of experiment that would be needed for one."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import optimize, special

from ntpctp._core.errors import InputError
from ntpctp.statistics.difference import PairedDifference, satterthwaite

MAX_SEEDS = 1000  # larger numbers of seeds are not computed
POWER = 0.8

Decision = Literal["better", "no difference", "undecided", "one seed"]


@dataclass(frozen=True)
class Verdict:
    """The verdict on two arms, in fixed words."""

    words: str
    decision: Decision
    better: Literal["a", "b"] | None
    num_seeds_needed: int | None  # only for an undecided verdict; ``None`` above ``MAX_SEEDS``
    smallest_detectable_difference: float | None
    """In the unit of the score; ``None`` with one seed or without any spread. If it exceeds the
    largest possible difference (``PairedDifference.largest``), no difference is detectable."""
    margin: float | None


def verdict(
    difference: PairedDifference,
    *,
    names: tuple[str, str] = ("A", "B"),
    higher_is_better: bool,
    margin: float | None,
    adjusted_p_value: float | None = None,
) -> Verdict:
    """Return one of seven verdicts on ``difference``, whose interval is (low, high).

    - ``"one seed: no verdict"``: there is no interval.
    - ``"no difference larger than d"``: -d < low and high < d for the stated ``margin`` d, the
      region of practical equivalence. This is the two one-sided tests procedure (Schuirmann
      1987) at (1 - level) / 2 each, 2.5 % for a 95 % interval, so stricter than the usual 5 %.
      It is checked first: a difference that is certainly not zero but certainly smaller than the
      experiment file calls relevant is no reason to prefer an arm.
    - ``"A better"`` or ``"B better"`` (with the arms' names): 0 is outside the interval, and with
      several pairs of arms the adjusted p value is at most 1 - level.
    - ``"the data do not say: A better alone, not among all pairs"``: 0 is outside the interval, but
      the difference is not significant after Holm's correction for the number of pairs.
    - ``"the data do not say: about n seeds needed"`` otherwise; or ``"more than 1000 seeds
      needed"``; or ``"more items needed, seeds alone do not suffice"``.
    - ``"the data do not say: no seed shows a difference"``: the difference is 0 in all seeds, so
      its size in other seeds cannot be estimated.

    If all seeds show the same difference of an unbounded score there is no interval; then
    ``better`` rests on the exact sign-flip test (six seeds at 95 %), never on a width of zero.
    ``names`` are those of A and B. ``higher_is_better`` turns the sign of the difference into a
    winner. ``margin`` is d > 0 in the unit of the score, or ``None`` if every difference matters;
    then equivalence is never claimed. ``adjusted_p_value`` is ``difference.p_value`` adjusted by
    ``holm`` for all pairs of arms that are compared on this score; ``None`` if there is only one
    pair.
    """
    if margin is not None and not 0 < margin < np.inf:
        raise InputError(
            f"margin: expected a positive number in the unit of the score, or none, got {margin}"
        )
    low, high = difference.low, difference.high
    if difference.num_seeds == 1 or difference.p_value is None:
        return Verdict("one seed: no verdict", "one seed", None, None, None, margin)
    detectable = smallest_detectable_difference(difference)
    if low is None or high is None:
        significant = difference.p_value <= 1 - difference.level
    else:
        significant = low > 0 or high < 0
        if margin is not None and -margin < low and high < margin:
            words = f"no difference larger than {margin:g}"
            return Verdict(words, "no difference", None, None, detectable, margin)
    if significant:
        a_wins = (difference.estimate > 0) == higher_is_better
        words = f"{names[0] if a_wins else names[1]} better"
        if adjusted_p_value is not None and adjusted_p_value > 1 - difference.level:
            words = f"the data do not say: {words} alone, not among all pairs"
            return Verdict(words, "undecided", None, None, detectable, margin)
        return Verdict(words, "better", "a" if a_wins else "b", None, detectable, margin)
    num_seeds = num_seeds_needed(difference, margin)
    if num_seeds is not None:
        need = f"about {num_seeds} seeds needed"
    elif difference.standard_error == 0 == difference.estimate and (
        margin is None or difference.item_variance == 0
    ):
        need = "no seed shows a difference"
    elif _items_limit(difference, margin):
        need = "more items needed, seeds alone do not suffice"
    else:
        need = f"more than {MAX_SEEDS} seeds needed"
    words = f"the data do not say: {need}"
    return Verdict(words, "undecided", None, num_seeds, detectable, margin)


@lru_cache(maxsize=1024)  # each of many pairs gets two verdicts: alone, then after correction
def num_seeds_needed(difference: PairedDifference, margin: float | None = None) -> int | None:
    """Return the smallest number of seeds at which this difference would give a decision.

    With n seeds, if estimate, spread and items stay the same, the half-width would be

        h(n) = t(df(n)) sqrt(s^2 / n + v),

    s = ``seed_standard_deviation``, v = ``item_variance``, df(n) Satterthwaite's with n - 1 and N -
    1. The smallest n with h(n) < |estimate| (0 excluded) or, with a margin d, h(n) < d - |estimate|
    (equivalence) is returned. s and the estimate are themselves uncertain, so n is an order of
    magnitude, and with exactly n seeds the chance of a decision is about one half. If scores are
    one per seed and all seeds show the same difference, n is the number at which the bound of
    ``paired_difference`` or its sign-flip test would decide. Returns n >= 2, or ``None`` if n
    exceeds ``MAX_SEEDS`` or ``difference`` rests on one seed.
    """
    if difference.seed_standard_deviation is None:
        return None
    if difference.standard_error == 0 and difference.item_variance == 0:
        return _equal_seeds_needed(difference, margin)
    num_seeds = np.arange(2.0, MAX_SEEDS + 1)
    seeds = difference.seed_standard_deviation**2 / num_seeds
    items = difference.item_variance
    item_df = max((difference.num_items or 1) - 1, 1)
    df = satterthwaite(seeds, items, num_seeds - 1, float(item_df))
    half_width = special.stdtrit(df, (1 + difference.level) / 2) * np.sqrt(seeds + items)
    enough = half_width < _needed_half_width(difference, margin)
    return int(num_seeds[np.argmax(enough)]) if enough.any() else None


def _equal_seeds_needed(difference: PairedDifference, margin: float | None) -> int | None:
    size, alpha, r = abs(difference.estimate), 1 - difference.level, difference.largest
    if r is None:
        # If n seeds agree, the sign-flip test has p = 2^(1 - n).
        return 1 + math.ceil(-math.log2(alpha)) if size > 0 else None
    shares = []  # shares of deviating seeds; a bound below one of them gives a decision
    if size > 0:
        shares.append(size / (r + size))
    if margin is not None and size < margin:
        # The end of the interval on the side of the estimate is nearer to its margin.
        shares.append((margin - size) / (r - size) if size < r else 1.0)
    if not shares:
        return None
    if max(shares) >= 1:
        return 2
    needed = max(2, math.floor(math.log(alpha) / math.log1p(-max(shares))) + 1)
    return needed if needed <= MAX_SEEDS else None


def _needed_half_width(difference: PairedDifference, margin: float | None) -> float:
    distance = abs(difference.estimate)
    return distance if margin is None else max(distance, margin - distance)


def _items_limit(difference: PairedDifference, margin: float | None) -> bool:
    """Return whether infinitely many seeds on these items would leave the verdict open."""
    item_df = max((difference.num_items or 1) - 1, 1)
    quantile = special.stdtrit(float(item_df), (1 + difference.level) / 2)
    half_width = quantile * np.sqrt(difference.item_variance)
    return bool(half_width >= _needed_half_width(difference, margin) > 0)


@lru_cache(maxsize=1024)
def smallest_detectable_difference(
    difference: PairedDifference, power: float = POWER
) -> float | None:
    """Return the true difference that this experiment detects with probability ``power``.

    The delta > 0 at which P(|T| > t(df)) = ``power`` for the noncentral t variable T with df
    degrees of freedom and noncentrality delta / SE, SE and df those of ``difference``. It describes
    the experiment, not the observed effect ("observed power" adds nothing to p). Returns delta in
    the unit of the score; ``None`` with one seed or if the standard error is 0.
    """
    error, df = difference.standard_error, difference.degrees_of_freedom
    if error is None or df is None or error == 0:
        return None
    critical = float(special.stdtrit(df, (1 + difference.level) / 2))

    def lack(noncentrality: float) -> float:
        # T^2 is noncentral F, whose tail is stable; SciPy's noncentral t gives NaN at df = 1.
        return float(1 - power - special.ncfdtr(1, df, noncentrality**2, critical**2))

    upper = critical + 1.0
    while lack(upper) < 0:
        upper *= 2
    return float(optimize.brentq(lack, 0, upper, xtol=1e-10)) * error
