"""Checks of arguments that all functions of the package share."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntpctp._core.errors import InputError

FloatArray = NDArray[np.float64]


def finite(values: ArrayLike, name: str, *dimensions: int) -> FloatArray:
    """Return ``values`` as float64 after checking that it is non-empty, finite and of allowed rank.

    ``name`` is that of the argument, for messages; ``dimensions`` are the allowed numbers of axes.
    The caller's array is never changed.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in dimensions:
        expected = " or ".join(str(d) for d in dimensions)
        raise InputError(f"{name}: expected an array with {expected} axes, got shape {array.shape}")
    if array.size == 0:
        raise InputError(f"{name}: expected at least one value, got shape {array.shape}")
    num_bad = int(np.count_nonzero(~np.isfinite(array)))
    if num_bad:
        raise InputError(
            f"{name}: {num_bad} of {array.size} values are NaN or infinite; exclude and count "
            "them before comparing"
        )
    return array


def paired(a: ArrayLike, b: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return two finite score arrays of one shape, (S,) or (S, N)."""
    array_a, array_b = finite(a, "a", 1, 2), finite(b, "b", 1, 2)
    if array_a.shape != array_b.shape:
        raise InputError(
            "expected the same seeds and items in both arms, got shapes "
            f"{array_a.shape} and {array_b.shape}"
        )
    return array_a, array_b


def varies(values: FloatArray, size: float) -> bool:
    """Return whether ``values`` differ by more than a rounding error of numbers up to ``size``."""
    return bool(np.ptp(values) > 1e-12 * size)


def level(value: float) -> float:
    """Return a confidence level after checking that it lies in (0, 1): 0.95, not 95."""
    if not 0 < value < 1:
        raise InputError(f"level: expected a number between 0 and 1 such as 0.95, got {value}")
    return value
