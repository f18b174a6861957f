"""The difference in units of its standard deviation over seeds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from ntpctp.statistics import _checks


@dataclass(frozen=True)
class StandardisedEffect:
    """Mean paired difference over its standard deviation; dimensionless."""

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    num_seeds: int
    reason: str | None


def standardised_effect(differences: ArrayLike, level: float = 0.95) -> StandardisedEffect:
    """Return Hedges' g of paired differences with its noncentral t interval.

    g = J(S - 1) mean(d) / sd(d), sd with divisor S - 1 and the exact small-sample correction J(f) =
    Gamma(f / 2) / (sqrt(f / 2) Gamma((f - 1) / 2)) (Hedges 1981), which makes g unbiased for
    Gaussian d. J(1) = 0, so at least 3 seeds are needed. The interval contains the noncentralities
    under which the observed t = sqrt(S) mean / sd is not extreme, times J / sqrt(S) (Steiger and
    Fouladi 1997); exact for Gaussian d up to the factor J. ``differences`` have the shape (S,):
    score of A minus score of B, seed by seed.
    """
    d = _checks.finite(differences, "differences", 1)
    _checks.level(level)
    num_seeds, df = len(d), len(d) - 1
    reason = None
    if num_seeds < 3:
        reason = f"{num_seeds} seed{'s' if num_seeds > 1 else ''}: at least 3 needed"
    elif not _checks.varies(d, float(np.abs(d).max())):
        reason = "all seeds show the same difference: no spread to measure it in"
    if reason:
        return StandardisedEffect(None, None, None, level, num_seeds, reason)
    t = float(np.sqrt(num_seeds) * d.mean() / float(d.std(ddof=1)))
    log_j = special.gammaln(df / 2) - special.gammaln((df - 1) / 2) - np.log(df / 2) / 2
    scale = float(np.exp(log_j) / np.sqrt(num_seeds))
    low, high = _noncentralities(t, df, level)
    return StandardisedEffect(t * scale, low * scale, high * scale, level, num_seeds, None)


def _noncentralities(t: float, df: int, level: float) -> tuple[float, float]:
    """Return the noncentralities at which ``t`` is the upper and the lower tail quantile."""
    # By symmetry only t >= 0 is solved. There P(T <= t) >= P(T <= 0) = Phi(-noncentrality), so no
    # root lies below -z; further out SciPy's distribution function is NaN.
    if t < 0:
        low, high = _noncentralities(-t, df, level)
        return -high, -low
    tail = (1 - level) / 2
    lowest = float(special.ndtri(tail)) - 1

    def solve(target: float) -> float:
        def excess(noncentrality: float) -> float:
            return float(special.nctdtr(df, noncentrality, t) - target)

        highest = t + 2
        while excess(highest) > 0:
            highest *= 2
        return float(optimize.brentq(excess, lowest, highest, xtol=1e-12))

    return solve(1 - tail), solve(tail)
