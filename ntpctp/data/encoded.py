"""Encoded examples: token ids that know their role, one by one and many in flat arrays.

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
        num_merged: tokens that straddle two segments (only a chat template can make them); each
            counts as part of the later one.
        text: what the tokens stand for, prompt, reasoning and answer in one.
        offsets: int64, shape (T, 2): first character and the one behind the last, in ``text``; both
            alike for special tokens. None where the tokenizer does not tell.
        marked: character spans that the data mark as critical, in ``text``.
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
    """A sequence whose items are made when asked for; a slice of it is a view of it."""

    @abstractmethod
    def item(self, index: int) -> T:
        """Return the item at ``index`` in [0, len)."""

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
    """Some items of a sequence, in a given order: a view, not a copy."""

    base: Sequence[T]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def item(self, index: int) -> T:  # noqa: D102
        return self.base[int(self.indices[index])]


class Chain(Lazy[T]):
    """Several sequences, one behind the other."""

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
        texts: N texts.
        offsets: int32, shape (S, 2), or None: see ``EncodedExample``.
        marked: by the number of the example, where there are any.
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
    def of(rows: Sequence[EncodedExample]) -> "EncodedExamples":
        """Return ``rows`` in flat arrays; either all of them have offsets or none."""
        offsets = [row.offsets for row in rows if row.offsets is not None]
        return EncodedExamples(
            _joined((row.input_ids for row in rows), np.int32),
            _joined((row.roles for row in rows), np.uint8),
            np.cumsum([0, *map(len, rows)]),
            np.array([row.answer_start for row in rows], np.int32),
            np.array([row.num_merged for row in rows], np.int32),
            [row.text for row in rows],
            np.concatenate(offsets).astype(np.int32) if len(offsets) == len(rows) > 0 else None,
            {index: row.marked for index, row in enumerate(rows) if row.marked},
        )


def _joined(arrays: Iterable[NDArray[Any]], kind: type[Any]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *arrays]).astype(kind)


def lengths(rows: Sequence[EncodedExample]) -> NDArray[np.int64]:
    """Return the number of tokens of every row: int64, shape (N,); makes no row of flat ones."""
    if isinstance(rows, EncodedExamples):
        return np.diff(rows.bounds)
    if isinstance(rows, Selection):
        return lengths(rows.base)[rows.indices]
    if isinstance(rows, Chain):
        return np.concatenate([np.empty(0, np.int64), *map(lengths, rows.parts)])
    return np.array([len(row) for row in rows], np.int64)


def num_merged(rows: Sequence[EncodedExample]) -> int:
    """Return how many tokens straddle two segments, in all rows; makes no row of flat ones."""
    if isinstance(rows, Chain):
        return sum(map(num_merged, rows.parts))
    if isinstance(rows, EncodedExamples):
        return int(rows.num_merged.sum())
    return sum(row.num_merged for row in rows)


def patterns(rows: Sequence[EncodedExample]) -> Iterator[bytes]:
    """Yield the roles of every row; makes no row of flat ones."""
    if isinstance(rows, Chain):
        for part in rows.parts:
            yield from patterns(part)
    elif isinstance(rows, EncodedExamples):
        codes, bounds = rows.roles.tobytes(), rows.bounds.tolist()
        yield from (codes[start:end] for start, end in pairwise(bounds))
    else:
        yield from (row.roles.tobytes() for row in rows)


def role_patterns(rows: Sequence[EncodedExample]) -> dict[bytes, int]:
    """Return every different sequence of roles, with the first row that has it."""
    first: dict[bytes, int] = {}
    for index, pattern in enumerate(patterns(rows)):
        first.setdefault(pattern, index)
    return first


def trim_prompt(row: EncodedExample, length: int, where: str) -> EncodedExample:
    """Cut the prompt of ``row`` from the left until it has ``length`` tokens.

    A beginning-of-sequence token is cut like any other; what follows the prompt is never cut.

    Raises:
        InputError: if no token of the prompt would be left.
    """
    cut = len(row) - length
    if cut >= row.answer_start:
        raise InputError(
            f"{where}: reasoning, answer and end of sequence alone have "
            f"{len(row) - row.answer_start} tokens and do not fit into {length} with a token of "
            "the prompt; raise model.context or remove the example"
        )
    return replace(
        row,
        input_ids=row.input_ids[cut:],
        roles=row.roles[cut:],
        answer_start=row.answer_start - cut,
        offsets=None if row.offsets is None else row.offsets[cut:],
    )
