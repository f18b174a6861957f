"""Splits of generated examples: independent random streams, and disjoint train and test.

Example ``index`` of a split depends only on the seed, the names and the index, so that a larger
split begins with the same examples. A hash of the prompt decides whether it belongs to train or to
test, so no draw, size or seed can put a prompt into both.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.example import Example

Draw = Callable[[np.random.Generator], Example]
"""Makes an example from a random stream."""

_MAX_DRAWS = 1000  # one prompt in five is for tests: all 1000 draws fail with probability 1e-97


def draw_split(
    draw: Draw,
    size: int,
    seed: int,
    task: str,
    split: str,
    for_test: bool,
) -> list[Example]:
    """Draw the examples of a split.

    Args:
        draw: creates an example from a random stream.
        size: number of examples.
        seed: of the task.
        task: name of the task.
        split: name of the split; each split has its own streams.
        for_test: whether to keep the fifth of all prompts reserved for tests, or the others.

    Raises:
        InputError: if no such prompt is found, since the options allow too few prompts.
    """
    examples = []
    for index in range(size):
        rng = generator(seed, task, split, index)
        for _ in range(_MAX_DRAWS):
            example = draw(rng)
            if is_for_test(example.text("prompt")) == for_test:
                break
        else:
            raise InputError(
                f"task {task}: these options give so few different prompts that none is left for "
                f"split {split!r}. Choose larger values"
            )
        examples.append(example)
    return examples


def is_for_test(prompt: str) -> bool:
    """Whether ``prompt`` is in the fifth of all prompts that is reserved for tests."""
    return zlib.crc32(prompt.encode()) % 5 == 0


class Computed(Sequence[Example]):
    """Examples that are created on access, so that a million of them need no memory."""

    def __init__(self, size: int, make: Callable[[int], Example]) -> None:
        """Store ``make``, which creates the example with an index in [0, ``size``)."""
        self._indices = range(size)
        self._make = make

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self._make(k) for k in self._indices[index]]
        return self._make(self._indices[index])

    def __iter__(self) -> Iterator[Example]:
        return map(self._make, self._indices)
