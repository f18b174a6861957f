"""The examples of an optimizer step: a function of (seed, step) alone."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ntpctp._core.rng import generator


def batch_indices(
    seed: int,
    step: int,
    batch_size: int,
    num_examples: int,
    lengths: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the examples of optimizer step ``step`` (from 0): int64, shape (batch_size,).

    Every epoch is a fresh permutation; epochs are concatenated and cut into batches, so each
    example is seen equally often and no remainder is dropped.

    Args:
        seed: of the run.
        step: of the optimizer.
        batch_size: examples a step.
        num_examples: examples of the split.
        lengths: tokens of every example, to group batches by length: each epoch is then sorted by
            length (ties in random order), cut into chunks of ``batch_size``, and the chunks are
            shuffled.
    """
    first = step * batch_size
    epochs = range(first // num_examples, (first + batch_size - 1) // num_examples + 1)
    stream = np.concatenate([_epoch(seed, e, batch_size, num_examples, lengths) for e in epochs])
    offset = first - epochs.start * num_examples
    return stream[offset : offset + batch_size]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num_examples: int) -> NDArray[np.int64]:
    return generator(seed, "order", epoch).permutation(num_examples)


def _epoch(
    seed: int, epoch: int, batch_size: int, num_examples: int, lengths: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return the order of one epoch: int64, shape (num_examples,)."""
    order = _permutation(seed, epoch, num_examples)
    if lengths is None:
        return order
    by_length = order[np.argsort(lengths[order], kind="stable")]
    chunks = [by_length[start : start + batch_size] for start in range(0, num_examples, batch_size)]
    shuffled = generator(seed, "order of lengths", epoch).permutation(len(chunks))
    return np.concatenate([chunks[chunk] for chunk in shuffled])
