"""Holm's correction of p values for the number of comparisons."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ntpctp._core.errors import InputError
from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray


def holm(p_values: ArrayLike) -> FloatArray:
    """Return p values adjusted by Holm's step-down procedure, in the order given.

    With the m values sorted, p_(1) <= ... <= p_(m), the adjusted one is max_{j <= i} min(1, (m - j
    + 1) p_(j)) (Holm 1979). Rejecting where it is at most alpha keeps the probability of any false
    rejection at alpha under every dependence. ``p_values`` have the shape (m,), each in [0, 1].
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
    """Return ``holm`` of the p values that are known; ``None`` stays ``None`` and is not counted.

    >>> holm_of_known([0.01, None, 0.03])
    [0.02, None, 0.03]
    """
    known = [p for p in p_values if p is not None]
    adjusted = iter(holm(known).tolist() if known else [])
    return [None if p is None else next(adjusted) for p in p_values]
