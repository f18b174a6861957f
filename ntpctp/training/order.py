"""Which examples an optimizer step sees: a function of (seed, step) alone."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ntpctp._core.rng import generator


def batch_indices(
    seed: int,
    step: int,
    batch_size: int,
    num_rows: int,
    lengths: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the examples of optimizer step ``step`` (from 0): int64, shape (batch_size,).

    Every epoch is a fresh permutation; epochs are laid end to end and cut into batches, so each
    example is seen equally often and no remainder is dropped.

    Args:
        seed: of the run.
        step: of the optimizer.
        batch_size: examples a step.
        num_rows: examples of the split.
        lengths: tokens of every example, to group batches by: each epoch is then sorted by length
            (ties at random), cut into runs of ``batch_size``, and the runs are shuffled.
    """
    first = step * batch_size
    epochs = range(first // num_rows, (first + batch_size - 1) // num_rows + 1)
    stream = np.concatenate([_epoch(seed, e, batch_size, num_rows, lengths) for e in epochs])
    offset = first - epochs.start * num_rows
    return stream[offset : offset + batch_size]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_rows: int) -> NDArray[np.int64]:
    return generator(seed, "order", epoch).permutation(num_rows)


def _epoch(
    seed: int, epoch: int, batch_size: int, num_rows: int, lengths: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return the order of one epoch: int64, shape (num_rows,)."""
    order = _permutation(seed, epoch, num_rows)
    if lengths is None:
        return order
    by_length = order[np.argsort(lengths[order], kind="stable")]
    runs = [by_length[start : start + batch_size] for start in range(0, num_rows, batch_size)]
    shuffled = generator(seed, "order of lengths", epoch).permutation(len(runs))
    return np.concatenate([runs[run] for run in shuffled])
