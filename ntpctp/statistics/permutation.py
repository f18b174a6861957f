"""Permutation tests over seeds, exact where the number of arrangements allows it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ntpctp.statistics import _checks

# At most this many sign vectors are held at a time: 2**16 x 20 seeds of float64 are 10 MB.
_CHUNK = 2**16


class PermutationTest(NamedTuple):
    """A p value, the smallest one possible with so many seeds, and how it was computed."""

    p_value: float
    smallest_p_value: float
    num_arrangements: int
    exact: bool


def sign_flip_test(
    differences: ArrayLike, rng: np.random.Generator, num_resamples: int = 10_000
) -> PermutationTest:
    """Return the two-sided paired permutation test that the arms are exchangeable in every seed.

    Under the null hypothesis A and B could be swapped in each seed separately, so each of the 2^S
    sign vectors e gives an equally likely mean (Fisher 1935):

        p = #{e : |mean(e d)| >= |mean(d)|} / 2^S.

    All 2^S are enumerated if they are at most ``num_resamples``, without using the generator;
    otherwise p = (1 + hits) / (1 + num_resamples) over random sign vectors (Phipson and Smyth
    2010). The test is exact: its false-positive rate never exceeds its level. Its smallest p value
    is 2 / 2^S: 0.25 at 3 seeds, 0.0625 at 5, 0.002 at 10. With fewer than 6 seeds it cannot reach
    0.05 for any data. ``differences`` have the shape (S,): score of A minus score of B, seed by
    seed.
    """
    d = _checks.finite(differences, "differences", 1)
    num_seeds = len(d)
    exact = 2**num_seeds <= num_resamples
    total = 2**num_seeds if exact else num_resamples
    # Equal sums must count as equal despite rounding.
    threshold = abs(d.sum()) - 1e-12 * np.abs(d).sum()
    hits = 0
    for start in range(0, total, _CHUNK):
        count = min(_CHUNK, total - start)
        if exact:
            codes = np.arange(start, start + count)[:, None]
            flips = ((codes >> np.arange(num_seeds)) & 1).astype(np.uint8)
        else:
            bits = rng.integers(256, size=(count, -(-num_seeds // 8)), dtype=np.uint8)
            flips = np.unpackbits(bits, axis=1, count=num_seeds)
        hits += int(np.count_nonzero(np.abs(d.sum() - 2 * (flips @ d)) >= threshold))
    p_value = hits / total if exact else (1 + hits) / (1 + total)
    smallest = 2.0 ** (1 - num_seeds) if exact else 1 / (1 + total)
    return PermutationTest(p_value, smallest, total, exact)
