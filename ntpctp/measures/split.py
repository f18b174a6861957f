"""A split as measures read it: text and tokens side by side."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ntpctp.data.encoded import EncodedExample
from ntpctp.data.example import Example


@dataclass(frozen=True)
class EncodedSplit:
    """The examples of a split as text and as tokens, in the same order."""

    examples: Sequence[Example]
    encoded: Sequence[EncodedExample]

    def head(self, size: int | None) -> "EncodedSplit":
        """Return the first ``size`` items, or all."""
        return EncodedSplit(self.examples[:size], self.encoded[:size])

    @cached_property
    def keys(self) -> frozenset[bytes]:
        """The ``short_key`` of every example; computed on first use, since it reads all of them."""
        return frozenset(map(short_key, self.examples))


def short_key(example: Example) -> bytes:
    """Return a hash of 8 bytes: the same for equal examples, in every process."""
    return hashlib.blake2b(repr(example.key).encode(), digest_size=8).digest()
