"""Encoded examples: token ids, each with a role; single ones, and many in flat arrays.

Shape letters: T = tokens of one example, N = examples, S = tokens of all of them.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from ntpctp._core.errors import InputError
from ntpctp.data.example import ROLES, Role

ROLE_CODES: dict[Role, int] = {role: code for code, role in enumerate(ROLES)}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class EncodedExample:
    """One encoded example.

    Attributes:
        input_ids: int64, shape (T,).
        roles: uint8, shape (T,): the ``ROLE_CODES`` of every token.
        answer_start: index of the first token after the prompt: where decoding takes over.
        num_merged: tokens that straddle two segments (only a chat template produces them); each
            counts as part of the later segment.
        text: the encoded text: prompt, reasoning and answer as one string.
        offsets: int64, shape (T, 2): start and end of each token in ``text``, in characters; equal
            for special tokens. None if the tokenizer gives no offsets.
        marked: character spans of ``text`` that the data mark as critical.
    """

    input_ids: NDArray[np.int64]
    roles: NDArray[np.uint8]
    answer_start: int
    num_merged: int = 0
    text: str = ""
    offsets: NDArray[np.int64] | None = None
    marked: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.input_ids)

    def has_role(self, *roles: Role) -> NDArray[np.bool_]:
        """Which tokens have one of ``roles``: bool, shape (T,)."""
        wanted = np.zeros(len(ROLE_CODES), bool)
        wanted[[ROLE_CODES[role] for role in roles]] = True
        return wanted[self.roles]


class Lazy(Sequence[T], Generic[T]):
    """A sequence whose items are computed on access; a slice is a view."""

    @abstractmethod
    def item(self, index: int) -> T:
        """Return the item at ``index``, in [0, len)."""

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> "Lazy[T]": ...

    def __getitem__(self, index: int | slice) -> "T | Lazy[T]":
        if isinstance(index, slice):
            return Selection(self, np.arange(len(self))[index])
        return self.item(range(len(self))[index])


@dataclass(frozen=True, eq=False)
class Selection(Lazy[T]):
    """A view of some items of a sequence, in a given order."""

    base: Sequence[T]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def item(self, index: int) -> T:  # noqa: D102
        return self.base[int(self.indices[index])]


class Chain(Lazy[T]):
    """The concatenation of several sequences, without copying them."""

    def __init__(self, parts: Sequence[Sequence[T]]) -> None:
        """Hold ``parts`` as they are."""
        self.parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self.parts)

    def item(self, index: int) -> T:  # noqa: D102
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[part][index - int(self._ends[part])]


@dataclass(frozen=True, eq=False)
class EncodedExamples(Lazy[EncodedExample]):
    """Encoded examples in flat arrays, which may be memory-mapped.

    Attributes:
        input_ids: int32, shape (S,).
        roles: uint8, shape (S,).
        bounds: int64, shape (N + 1,): example n has the tokens bounds[n] to bounds[n + 1].
        answer_starts: int32, shape (N,).
        num_merged: int32, shape (N,).
        texts: N strings.
        offsets: int32, shape (S, 2), or None; see ``EncodedExample``.
        marked: number of an example -> its marked spans, for examples that have any.
    """

    input_ids: NDArray[np.int32]
    roles: NDArray[np.uint8]
    bounds: NDArray[np.int64]
    answer_starts: NDArray[np.int32]
    num_merged: NDArray[np.int32]
    texts: Sequence[str]
    offsets: NDArray[np.int32] | None = None
    marked: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.answer_starts)

    def item(self, index: int) -> EncodedExample:  # noqa: D102
        place = slice(*self.bounds[index : index + 2].tolist())
        return EncodedExample(
            self.input_ids[place].astype(np.int64),
            self.roles[place],
            int(self.answer_starts[index]),
            int(self.num_merged[index]),
            self.texts[index],
            None if self.offsets is None else self.offsets[place].astype(np.int64),
            self.marked.get(index, ()),
        )

    @staticmethod
    def of(encoded: Sequence[EncodedExample]) -> "EncodedExamples":
        """Copy encoded examples into flat arrays; offsets are kept if all examples have them."""
        offsets = [e.offsets for e in encoded if e.offsets is not None]
        return EncodedExamples(
            _joined((e.input_ids for e in encoded), np.int32),
            _joined((e.roles for e in encoded), np.uint8),
            np.cumsum([0, *map(len, encoded)]),
            np.array([e.answer_start for e in encoded], np.int32),
            np.array([e.num_merged for e in encoded], np.int32),
            [e.text for e in encoded],
            np.concatenate(offsets).astype(np.int32) if len(offsets) == len(encoded) > 0 else None,
            {number: e.marked for number, e in enumerate(encoded) if e.marked},
        )


def _joined(arrays: Iterable[NDArray[Any]], kind: type[Any]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *arrays]).astype(kind)


def lengths(encoded: Sequence[EncodedExample]) -> NDArray[np.int64]:
    """Return the number of tokens of each example: int64, shape (N,).

    Like the functions below, this reads flat arrays without creating an object per example.
    """
    if isinstance(encoded, EncodedExamples):
        return np.diff(encoded.bounds)
    if isinstance(encoded, Selection):
        return lengths(encoded.base)[encoded.indices]
    if isinstance(encoded, Chain):
        return np.concatenate([np.empty(0, np.int64), *map(lengths, encoded.parts)])
    return np.array([len(example) for example in encoded], np.int64)


def num_merged(encoded: Sequence[EncodedExample]) -> int:
    """Return the number of tokens that straddle two segments, over all examples."""
    if isinstance(encoded, Chain):
        return sum(map(num_merged, encoded.parts))
    if isinstance(encoded, EncodedExamples):
        return int(encoded.num_merged.sum())
    return sum(example.num_merged for example in encoded)


def patterns(encoded: Sequence[EncodedExample]) -> Iterator[bytes]:
    """Yield the role codes of each example, a byte per token."""
    if isinstance(encoded, Chain):
        for part in encoded.parts:
            yield from patterns(part)
    elif isinstance(encoded, EncodedExamples):
        codes, bounds = encoded.roles.tobytes(), encoded.bounds.tolist()
        yield from (codes[start:end] for start, end in pairwise(bounds))
    else:
        yield from (example.roles.tobytes() for example in encoded)


def role_patterns(encoded: Sequence[EncodedExample]) -> dict[bytes, int]:
    """Return every distinct sequence of role codes, with the number of the first such example."""
    first: dict[bytes, int] = {}
    for number, pattern in enumerate(patterns(encoded)):
        first.setdefault(pattern, number)
    return first


def trim_prompt(example: EncodedExample, length: int, where: str) -> EncodedExample:
    """Cut the prompt from the left so that the example has ``length`` tokens.

    A beginning-of-sequence token is cut like any other. The tokens after the prompt are never cut.

    Args:
        example: longer than ``length``.
        length: in tokens.
        where: source of the example, for the error message.

    Raises:
        InputError: if no token of the prompt would remain.
    """
    cut = len(example) - length
    if cut >= example.answer_start:
        raise InputError(
            f"{where}: reasoning, answer and end of sequence alone have "
            f"{len(example) - example.answer_start} tokens and do not fit into {length} with a "
            "token of the prompt. Raise model.context or remove the example"
        )
    return replace(
        example,
        input_ids=example.input_ids[cut:],
        roles=example.roles[cut:],
        answer_start=example.answer_start - cut,
        offsets=None if example.offsets is None else example.offsets[cut:],
    )
