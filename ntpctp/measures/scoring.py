"""From values of items to a score with its standard error."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.measures.measure import Score


def mean_score(
    values: Sequence[float],
    measure: str,
    split: str,
    score: str,
    unit: str,
    *,
    no_value: str | None = None,
    **fields: Any,
) -> Score:
    """Return the mean of item values with its standard error (sample deviation / sqrt(n)).

    Without a value it is null for the reason ``no_value``; without a reason that is an
    ``InputError``. Further ``fields`` as in ``Score``.
    """
    count = len(values)
    if not count and no_value:
        fields["rows_key"] = None
        return Score(measure, split, score, None, unit, 0, reason=no_value, **fields)
    if not count:
        raise InputError(f"{measure}: split {split!r} has no items to measure")
    tensor = torch.tensor(values, dtype=torch.float64)
    error = float(tensor.std() / count**0.5) if count > 1 else None
    mean = float(tensor.mean())
    return Score(measure, split, score, mean, unit, count, standard_error=error, **fields)


def bootstrap_error(
    score: Callable[..., float], *items: NDArray[np.float64], num_resamples: int = 200
) -> float | None:
    """Return the standard deviation of ``score`` over resampled items; None for one item.

    ``score`` is a function of the arrays of ``items``, which have one entry an item; an item is
    resampled in all of them at once. All resamples come from one fixed stream, so the same items
    give the same error.
    """
    count = len(items[0])
    if count < 2:
        return None
    draws = generator(0, "bootstrap error").integers(count, size=(num_resamples, count))
    return float(np.std([score(*(array[draw] for array in items)) for draw in draws], ddof=1))
