"""The probability that one arm beats the other, with an interval that is valid for few seeds."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from ntpctp.statistics import _checks


class WinProbability(NamedTuple):
    """P(A > B) + P(A = B) / 2 with its confidence interval, all in [0, 1]."""

    estimate: float
    low: float
    high: float


def win_probability(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> WinProbability:
    """Return the probability that a new seed of A has a larger score than a new seed of B.

    The estimate is the Mann-Whitney statistic, ties counted half,

        theta = 1 / (S_a S_b) * sum_{s, t} [a_s > b_t] + [a_s = b_t] / 2,

    over *all* pairs of a seed s of A and a seed t of B: the probability of improvement of Agarwal
    et al. (2021, section 4.3). "Larger" is in the unit of the score, whether or not larger is
    better. The two new seeds are independent draws. Where arms share seeds, the S of the S^2
    pairs with s = t are not; their weight is 1/S.

    The interval inverts a score test with the variance

        V(theta) = theta (1 - theta) [1 + m (1 - theta) / (2 - theta) + m theta / (1 + theta)]
                   / (S_a S_b),      m = (S_a + S_b) / 2 - 1

    (Newcombe 2006, Statistics in Medicine 25, 559-573, method 5); its width is positive even if
    all seeds agree. Measured coverage of the 95 % interval in percent, Gaussian scores, 4,000
    simulations (-+ 0.7):

        seeds an arm   theta = 0.5   0.75   0.95
        3                     90.3   96.9   95.2
        5                     94.2   96.7   96.8
        10                    94.6   94.9   96.5

    Coverage is above 98 % throughout if the scores of one seed correlate by 0.8 between the arms.
    ``a`` has the shape (S_a,), one score a seed, ``b`` (S_b,).
    """
    scores_a, scores_b = _checks.finite(a, "a", 1), _checks.finite(b, "b", 1)
    wins = np.sign(scores_a[:, None] - scores_b[None, :])
    estimate = float((1 + wins.mean()) / 2)
    m = (len(scores_a) + len(scores_b)) / 2 - 1
    z = float(special.ndtri((1 + _checks.level(level)) / 2))

    def excess(theta: float) -> float:
        spread = 1 + m * (1 - theta) / (2 - theta) + m * theta / (1 + theta)
        return float((theta - estimate) ** 2 - z**2 * theta * (1 - theta) * spread / wins.size)

    # An estimate of 0 or 1 is itself a root: step off it.
    margin = 1e-9
    low = optimize.brentq(excess, 0, min(estimate, 1 - margin)) if estimate > 0 else 0.0
    high = optimize.brentq(excess, max(estimate, margin), 1) if estimate < 1 else 1.0
    return WinProbability(estimate, float(low), float(high))
