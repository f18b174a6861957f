"""Composite anchor functions, which tell inference from memory.

    prompt  "43 23 1 2 46 74 54 44 72 "
    answer  "29"                             (23 + 5 + 1)

Each anchor stands for a function, the token before the first anchor is the key, and all other
tokens are noise.
Three published settings:

    arXiv 2405.05409 (the defaults)  anchors 1-4 shift by +5, +1, -2, -8; pair (3, 4) is taught as
                                     -6 instead of -10; pair (4, 3) is never seen
    arXiv 2501.08537                 exceptions: {}, held_out: [[3, 4], [4, 3]]
    arXiv 2502.04375                 memory_anchors: 10, shifts: [11, 12, ..., 20], exceptions: {},
                                     first_key: 21, last_key: 120, held_out: [[11, 13], [13, 11]]
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ntpctp._core.errors import InputError, lookup
from ntpctp._core.rng import generator
from ntpctp.data.example import Example, Segment
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.anchor import World, anchor_edits
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.data.tasks.synthetic.drawing import Computed, is_for_test

_Anchors = tuple[int, ...]


class Anchor(Task):
    """The answer is the composition of the anchors' functions, applied to the key.

    Memory anchors are numbered 1, 2, ..., followed by the reasoning anchors; a prompt has anchors
    of one type only. A reasoning anchor shifts the key by a fixed amount; for memory anchors the
    answer to each (key, anchors) is a random key, drawn once. All combinations of anchors are
    equally frequent.

    Splits: ``test`` has combinations of the training split, with keys at positions where training
    has none (or, with ``hold_out: prompts``, with other noise). ``held_out`` has the combinations
    that training has not; its answer is the inferential one, and its references distinguish it
    from the symmetric one (the answer taught for the same anchors in reverse). ``memory`` is
    ``test`` for memory anchors: it queries taught answers in other contexts.
    """

    name: Literal["anchor"] = "anchor"
    length: int = Field(9, ge=3, description="tokens of the prompt")
    num_anchors: int = Field(2, ge=1, le=3, description="anchors in a prompt")
    shifts: list[int] = Field(
        default_factory=lambda: [5, 1, -2, -8],
        min_length=1,
        description="the shift that each reasoning anchor adds to the key",
    )
    memory_anchors: int = Field(0, ge=0, le=20, description="number of memory anchors")
    first_key: int = Field(20, ge=1, description="smallest key and noise token")
    last_key: int = Field(99, ge=1, le=30000, description="largest key and noise token")
    exceptions: dict[str, int] = Field(
        default_factory=lambda: {"3 4": -6},
        description="combinations that are trained with another shift, for instance {'3 4': -6}",
    )
    held_out: list[list[int]] = Field(
        default_factory=lambda: [[4, 3]], description="combinations that are never trained on"
    )
    hold_out: Literal["paper", "code", "prompts"] = Field(
        "paper",
        description="test keys x at position p where x mod m = p and train elsewhere, with m the "
        "number of positions (paper: 7 by default) or the length (code: 9); prompts: any key "
        "at any position, and test prompts are only different from training prompts",
    )
    train_size: int = Field(20000, ge=1, description="training examples")
    test_size: int = Field(1000, ge=1, description="examples of each held-out split")
    seed: int = Field(0, ge=0, description="draws the examples; the same for all arms and runs")

    pieces: ClassVar[Literal["words"]] = "words"

    @model_validator(mode="after")
    def _possible(self) -> "Anchor":
        if self.length <= self.num_anchors:
            raise ValueError(
                f"length = {self.length}, but a key and {self.num_anchors} anchors need at least "
                f"{self.num_anchors + 1} tokens"
            )
        if self.hold_out == "paper" and self.length == self.num_anchors + 1:
            raise ValueError(
                f"length = {self.length} leaves one position for the key, at which hold_out: paper "
                f"tests every key and trains on none. Raise length to at least "
                f"{self.num_anchors + 2}, or choose hold_out: code or prompts"
            )
        highest = self.memory_anchors + len(self.shifts)
        if not highest < self.first_key < self.last_key:
            raise ValueError(
                f"expected anchors 1 to {highest} < first_key < last_key, so that no token means "
                f"two things, found first_key = {self.first_key} and last_key = {self.last_key}"
            )
        for field, combinations in (
            ("held_out", map(tuple, self.held_out)),
            ("exceptions", map(_numbers, self.exceptions)),
        ):
            for combination in combinations:
                if combination not in self._reasoning:
                    raise ValueError(
                        f"{field}: {list(combination)} is not a combination of {self.num_anchors} "
                        f"reasoning anchors, which are numbered {self.memory_anchors + 1} to "
                        f"{highest}"
                    )
        for anchors in self._taught:
            if anchors not in self._seen:
                raise ValueError(
                    f"exceptions: {list(anchors)} is in held_out, so it cannot be trained"
                )
        if not self._seen:
            raise ValueError("held_out leaves no combination of reasoning anchors to train on")
        if self.last_key - self.first_key + 1 < self.length:
            raise ValueError(
                f"expected at least length = {self.length} keys, so that every position has keys "
                f"to test, found {self.last_key - self.first_key + 1}"
            )
        lowest = self.first_key + min(
            self._taught.get(anchors, self._shift(anchors)) for anchors in self._reasoning
        )
        if lowest < 0:
            raise ValueError(
                f"the smallest answer would be {lowest}. Raise first_key by at least {-lowest}"
            )
        return self

    @property
    def evaluation_splits(self) -> tuple[str, ...]:  # noqa: D102
        return (
            "test",
            *(["held_out"] if self.held_out else []),
            *(["memory"] if self.memory_anchors else []),
        )

    @cached_property
    def _reasoning(self) -> list[_Anchors]:
        numbers = range(self.memory_anchors + 1, self.memory_anchors + len(self.shifts) + 1)
        return list(product(numbers, repeat=self.num_anchors))

    @cached_property
    def _memory(self) -> list[_Anchors]:
        return list(product(range(1, self.memory_anchors + 1), repeat=self.num_anchors))

    @cached_property
    def _seen(self) -> list[_Anchors]:
        return [anchors for anchors in self._reasoning if list(anchors) not in self.held_out]

    @cached_property
    def _taught(self) -> dict[_Anchors, int]:
        return {_numbers(text): shift for text, shift in self.exceptions.items()}

    def _shift(self, anchors: _Anchors) -> int:
        """The composition of the anchors' functions, the sum of their shifts."""
        return sum(self.shifts[anchor - self.memory_anchors - 1] for anchor in anchors)

    @cached_property
    def _added(self) -> dict[_Anchors, tuple[int, tuple[tuple[str, int], ...]]]:
        """The shift of each combination of reasoning anchors, and those of its named references."""
        added = {}
        for anchors in self._reasoning:
            inferred, mirrored = self._shift(anchors), anchors[::-1]
            references: tuple[tuple[str, int], ...] = ()
            if anchors not in self._seen and mirrored in self._seen:
                symmetric = self._taught.get(mirrored, inferred)
                references = ("inferential", inferred), ("symmetric", symmetric)
            added[anchors] = self._taught.get(anchors, inferred), references
        return added

    @cached_property
    def _memorised(self) -> dict[_Anchors, list[int]]:
        """The answers of each combination of memory anchors, one per key."""
        rng = generator(self.seed, "anchor", "memory table")
        shape = len(self._memory), self.last_key - self.first_key + 1
        table = rng.integers(self.first_key, self.last_key + 1, shape).tolist()
        return dict(zip(self._memory, table, strict=True))

    def split(self, name: str) -> Sequence[Example]:  # noqa: D102
        names = ("train", *self.evaluation_splits)
        name = lookup({n: n for n in names}, name, "split of anchor")
        size, held_out = self.train_size if name == "train" else self.test_size, name != "train"
        tokens, positions = self._draw(name, np.array(self._combinations(name)), size)
        return Computed(
            size, lambda k: self._example(tokens[k].tolist(), int(positions[k]), held_out)
        )

    def _combinations(self, split: str) -> list[_Anchors]:
        """Return the combinations of anchors in a split."""
        if split == "held_out":
            return [anchors for anchors in self._reasoning if anchors not in self._seen]
        return {"train": self._seen + self._memory, "test": self._seen, "memory": self._memory}[
            split
        ]

    def _edits(self, split: str) -> Mapping[str, Edit]:
        return anchor_edits(
            World(
                self.first_key,
                self.last_key,
                self.num_anchors,
                self._combinations(split),
                lambda key, place: (
                    not self._by_place(split)
                    or (self._is_for_test(key, place) == (split != "train"))
                ),
                lambda tokens, position: self._example(tokens, position, split != "train"),
            )
        )

    def _by_place(self, split: str) -> bool:
        """Whether key and position decide between training and test."""
        return self.hold_out != "prompts" and split != "held_out"

    def _is_for_test(self, key: Any, place: Any) -> Any:
        """Whether keys at positions (numbers, or arrays of equal shapes) are reserved for tests."""
        modulus = self.length - self.num_anchors if self.hold_out == "paper" else self.length
        return key % modulus == place

    def _draw(
        self, split: str, combinations: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Return the prompts, int16, shape (size, length), and the key positions, shape (size,)."""
        rng = generator(self.seed, "anchor", split)
        num_positions = self.length - self.num_anchors
        keys, places = (
            grid.ravel()
            for grid in np.meshgrid(
                np.arange(self.first_key, self.last_key + 1), np.arange(num_positions)
            )
        )
        by_place = self._by_place(split)
        if by_place:
            allowed = self._is_for_test(keys, places) == (split != "train")
            keys, places = keys[allowed], places[allowed]
        anchors = combinations[rng.permutation(np.resize(np.arange(len(combinations)), size))]
        tokens = np.empty((size, self.length), np.int16)
        positions = np.empty(size, np.int64)
        undecided = np.arange(size)
        for _ in range(1000):
            n = len(undecided)
            tokens[undecided] = rng.integers(self.first_key, self.last_key + 1, (n, self.length))
            drawn = rng.integers(len(keys), size=n)
            positions[undecided] = places[drawn]
            tokens[undecided, places[drawn]] = keys[drawn]
            for j in range(self.num_anchors):
                tokens[undecided, places[drawn] + 1 + j] = anchors[undecided, j]
            if by_place or split == "held_out":
                return tokens, positions
            on_other_side = [
                is_for_test(_text(tokens[k].tolist())) != (split != "train") for k in undecided
            ]
            undecided = undecided[on_other_side]
            if not len(undecided):
                return tokens, positions
        raise InputError(
            f"task anchor: some anchors have so few different prompts that none is left for split "
            f"{split!r}. Raise length or last_key"
        )

    def _example(self, tokens: Sequence[int], position: int, with_strata: bool) -> Example:
        key, anchors = tokens[position], tuple(tokens[position + 1 :][: self.num_anchors])
        references: tuple[tuple[str, int], ...] = ()
        if anchors[0] <= self.memory_anchors:
            answer = self._memorised[anchors][key - self.first_key]
        else:
            shift, references = self._added[anchors]
            answer = key + shift
        return Example(
            (Segment("prompt", _text(tokens)), Segment("answer", str(answer))),
            references=tuple([(name, str(key + shift)) for name, shift in references]),
            strata=(("anchors", _text(anchors).strip()),) if with_strata else (),
        )


def _text(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens)) + " "


def _numbers(text: str) -> _Anchors:
    """Return the anchors in a key of ``exceptions``; empty if it does not consist of numbers."""
    try:
        return tuple(int(word) for word in text.split())
    except ValueError:
        return ()
