"""Edits of anchor functions: other noise, another key or anchor."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import (
    SHARES,
    Edit,
    Edited,
    contrast,
    number_of,
    prompt_of,
    with_prompt,
)


@dataclass(frozen=True)
class World:
    """The prompts that a split may have.

    Attributes:
        first_key: smallest key and noise token; smaller tokens are anchors.
        last_key: largest key and noise token.
        num_anchors: anchors in a prompt.
        combinations: of anchors.
        is_allowed: whether a key is allowed at a position.
        make: (tokens, position of the key) -> example.
    """

    first_key: int
    last_key: int
    num_anchors: int
    combinations: Collection[tuple[int, ...]]
    is_allowed: Callable[[int, int], bool]
    make: Callable[[Sequence[int], int], Example]

    def key_of(self, tokens: Sequence[int]) -> int:
        """Return the position of the key, before the first anchor."""
        return next(k for k, token in enumerate(tokens) if token < self.first_key) - 1


def anchor_edits(world: World) -> Mapping[str, Edit]:
    """Return the edits of a split."""
    return {
        "noise_tokens": Edit(
            "tokens that are neither key nor anchor are replaced",
            "share of these tokens",
            SHARES,
            True,
            lambda example, strength, rng: _noise(example, world, strength, rng),
        ),
        "contrast": contrast(
            "the key or one anchor is replaced by another that the split may have",
            lambda example, rng: _contrast(example, world, rng),
        ),
    }


def _tokens(example: Example) -> list[int]:
    return [int(token) for token in prompt_of(example).split()]


def _noise(
    example: Example, world: World, strength: float, rng: np.random.Generator
) -> Edited | None:
    tokens = _tokens(example)
    position = world.key_of(tokens)
    places = [k for k in range(len(tokens)) if not position <= k <= position + world.num_anchors]
    if not places:
        return None
    # A cyclic shift by a random positive number gives a different token.
    size = world.last_key - world.first_key + 1
    order, shifts = rng.permutation(places), rng.integers(1, size, len(tokens))
    for k in order[: number_of(strength, len(places))]:
        tokens[k] = world.first_key + int(tokens[k] - world.first_key + shifts[k]) % size
    return Edited(with_prompt(example, " ".join([*map(str, tokens), ""])))


def _contrast(example: Example, world: World, rng: np.random.Generator) -> Edited | None:
    tokens = _tokens(example)
    position = world.key_of(tokens)
    # First choose between key and anchor, since there are many more keys.
    kinds = [
        list(_other_keys(tokens, position, world)),
        list(_other_anchors(tokens, position, world)),
    ]
    for kind in rng.permutation(2):
        changes = kinds[kind]
        for k in rng.permutation(len(changes)):
            edited = world.make(changes[k], position)
            if edited.answer != example.answer:
                return Edited(edited)
    return None


def _other_keys(tokens: Sequence[int], position: int, world: World) -> Iterator[list[int]]:
    for key in range(world.first_key, world.last_key + 1):
        if key != tokens[position] and world.is_allowed(key, position):
            yield [*tokens[:position], key, *tokens[position + 1 :]]


def _other_anchors(tokens: Sequence[int], position: int, world: World) -> Iterator[list[int]]:
    end = position + 1 + world.num_anchors
    anchors = tokens[position + 1 : end]
    for combination in world.combinations:
        if sum(a != b for a, b in zip(anchors, combination, strict=True)) == 1:
            yield [*tokens[: position + 1], *combination, *tokens[end:]]
