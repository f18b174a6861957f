"""The verdict in fixed words, and what a larger experiment would have to be."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import optimize, special

from ntpctp._core.errors import InputError
from ntpctp.statistics.difference import PairedDifference, satterthwaite

MAX_SEEDS = 1000
"""Beyond this the number of seeds needed is not worth naming."""

POWER = 0.8

Decision = Literal["better", "no difference", "undecided", "one seed"]


@dataclass(frozen=True)
class Verdict:
    """What the data say about two arms, in words that are the same everywhere."""

    words: str
    decision: Decision
    better: Literal["a", "b"] | None
    num_seeds_needed: int | None
    """Only for an undecided verdict, and ``None`` above ``MAX_SEEDS``."""
    smallest_detectable_difference: float | None
    """Unit of the score; ``None`` with one seed or without any spread. It may be larger than any
    difference can be (``PairedDifference.largest``): these data could then have shown none."""
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
      It is asked first: a difference that is surely not zero but surely below what the
      experiment file calls relevant is no reason to prefer an arm.
    - ``"A better"`` or ``"B better"`` (with the arms' names): 0 is outside the interval, and with
      several pairs of arms the adjusted p value is at most 1 - level.
    - ``"the data do not say: A better alone, not among all pairs"``: 0 is outside the interval, but
      of so many pairs one may well be so by chance.
    - ``"the data do not say: about n seeds needed"`` otherwise; or ``"more than 1000 seeds
      needed"``; or ``"more items needed, seeds alone do not suffice"``.
    - ``"the data do not say: no seed shows a difference"``: it is 0 in all of them, and nothing
      tells how large it is in others.

    Where all seeds show the same difference of a score without bounds there is no interval; then
    ``better`` rests on the exact sign-flip test (six seeds at 95 %), never on a width of zero.

    Args:
        difference: of A minus B.
        names: of A and B.
        higher_is_better: whether a larger score is better; turns the sign into a winner.
        margin: d > 0 in the unit of the score, or ``None`` if no difference is too small to
            matter; then equivalence is never claimed.
        adjusted_p_value: ``difference.p_value`` adjusted by ``holm`` for all pairs of arms that are
            compared on this score; ``None``: it is the only pair.

    Raises:
        InputError: if ``margin`` is not a positive finite number.
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
        found = difference.p_value <= 1 - difference.level
    else:
        found = low > 0 or high < 0
        if margin is not None and -margin < low and high < margin:
            words = f"no difference larger than {margin:g}"
            return Verdict(words, "no difference", None, None, detectable, margin)
    if found:
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


@lru_cache(maxsize=1024)  # verdicts of many pairs are given twice: alone, and among all pairs
def num_seeds_needed(difference: PairedDifference, margin: float | None = None) -> int | None:
    """Return the smallest number of seeds at which this difference would give a decision.

    With n seeds, if estimate, spread and items stay what they are, the half-width would be

        h(n) = t(df(n)) sqrt(s^2 / n + v),

    s = ``seed_standard_deviation``, v = ``item_variance``, df(n) Satterthwaite's with n - 1 and
    N - 1. The smallest n with h(n) < |estimate| (0 excluded) or, with a margin d,
    h(n) < d - |estimate| (equivalence) is returned. As s and the estimate are themselves
    uncertain, n is an order of magnitude, and at exactly n seeds the chance to get a decision
    is about one half; "about" is meant. Where all seeds show the same difference c of one score a
    seed, n is that at which the bound of ``paired_difference`` or its sign-flip test would decide.

    Returns:
        n >= 2, or ``None`` if it is above ``MAX_SEEDS`` or there was one seed only.
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
    enough = half_width < _room(difference, margin)
    return int(num_seeds[np.argmax(enough)]) if enough.any() else None


def _equal_seeds_needed(difference: PairedDifference, margin: float | None) -> int | None:
    """Return at how many seeds that are all alike there is a decision."""
    size, alpha, r = abs(difference.estimate), 1 - difference.level, difference.largest
    if r is None:
        # The sign-flip test of n seeds that agree has p = 2^(1 - n).
        return 1 + math.ceil(-math.log2(alpha)) if size > 0 else None
    shares = []  # of seeds that may be unlike these, below which there is a decision
    if size > 0:
        shares.append(size / (r + size))
    if margin is not None and size < margin:
        # The end on the side of the estimate is the one that is nearer to its margin.
        shares.append((margin - size) / (r - size) if size < r else 1.0)
    if not shares:
        return None
    if max(shares) >= 1:
        return 2
    found = max(2, math.floor(math.log(alpha) / math.log1p(-max(shares))) + 1)
    return found if found <= MAX_SEEDS else None


def _room(difference: PairedDifference, margin: float | None) -> float:
    """Return how narrow the half-width has to be for a decision at this estimate."""
    distance = abs(difference.estimate)
    return distance if margin is None else max(distance, margin - distance)


def _items_limit(difference: PairedDifference, margin: float | None) -> bool:
    """Return whether infinitely many seeds on these items would leave the verdict open."""
    item_df = max((difference.num_items or 1) - 1, 1)
    quantile = special.stdtrit(float(item_df), (1 + difference.level) / 2)
    return bool(quantile * np.sqrt(difference.item_variance) >= _room(difference, margin) > 0)


@lru_cache(maxsize=1024)
def smallest_detectable_difference(
    difference: PairedDifference, power: float = POWER
) -> float | None:
    """Return the true difference that this experiment would have found with ``power``.

    The delta > 0 at which P(|T| > t(df)) = ``power`` for the noncentral t variable T with df
    degrees of freedom and noncentrality delta / SE, SE and df those of ``difference``. It
    describes the experiment, not the observed effect ("observed power" says no more than p).

    Returns:
        delta in the unit of the score; ``None`` with one seed or if the standard error is 0.
    """
    error, df = difference.standard_error, difference.degrees_of_freedom
    if error is None or df is None or error == 0:
        return None
    critical = float(special.stdtrit(df, (1 + difference.level) / 2))

    def lack(noncentrality: float) -> float:
        # T^2 is noncentral F: one stable tail, where SciPy's noncentral t gives NaN at df = 1.
        return float(1 - power - special.ncfdtr(1, df, noncentrality**2, critical**2))

    upper = critical + 1.0
    while lack(upper) < 0:
        upper *= 2
    return float(optimize.brentq(lack, 0, upper, xtol=1e-10)) * error
