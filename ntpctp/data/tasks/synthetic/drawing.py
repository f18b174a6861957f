"""Splits of generated examples: independent streams, and train and test that cannot meet.

Example ``index`` of a split depends on the seed, the names and the index alone, so that a split
grows without changing what it had. Whether a prompt may be in train or in test is decided by a
hash of the prompt itself: no draw, size or seed can put one prompt into both.
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

_MOST_DRAWS = 1000  # one in five prompts is for testing: 1000 draws fail with chance 1e-97


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
        draw: makes an example from a random stream.
        size: number of examples.
        seed: of the task.
        task: its name.
        split: its name; other splits have other streams.
        for_test: whether to keep the fifth of all prompts that is for testing, or the others.

    Raises:
        InputError: if no such prompt is found, because there are hardly any.
    """
    examples = []
    for index in range(size):
        rng = generator(seed, task, split, index)
        for _ in range(_MOST_DRAWS):
            example = draw(rng)
            if is_for_test(example.text("prompt")) == for_test:
                break
        else:
            raise InputError(
                f"task {task}: these options give so few different prompts that none is left for "
                f"split {split!r}; choose larger ones"
            )
        examples.append(example)
    return examples


def is_for_test(prompt: str) -> bool:
    """Whether ``prompt`` is among the fifth of all prompts that is never trained on."""
    return zlib.crc32(prompt.encode()) % 5 == 0


class Computed(Sequence[Example]):
    """Examples that are made when they are asked for, so that a million cost no memory."""

    def __init__(self, size: int, make: Callable[[int], Example]) -> None:
        """Hold ``make``, which gives the example with an index in [0, ``size``)."""
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
