"""Edits of chains: order of the pairs, other tokens, further pairs, another answer."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import (
    SHARES,
    Edit,
    Edited,
    contrast,
    prompt_of,
    with_answer,
    with_prompt,
    words_replaced,
)
from ntpctp.data.tasks.edits.premises import NUMBERS, renaming, swapped


def chain_edits(tokens: int, first: int, differences: Sequence[int]) -> Mapping[str, Edit]:
    """Return the edits of a split.

    A new token has the same remainder modulo 5 as the old one and is in the same range of
    ``tokens``, so that the split may have the new pairs.

    Args:
        tokens: number of different tokens in a range.
        first: the smallest token of further pairs.
        differences: (second - first) modulo 5 of a pair of this split.
    """
    alike = {
        (upper, remainder): [
            str(token)
            for token in range(1 + upper * tokens, tokens + 1 + upper * tokens)
            if token % 5 == remainder
        ]
        for upper in (False, True)
        for remainder in range(5)
    }

    def names(example: Example) -> dict[str, Collection[str]]:
        found = dict.fromkeys(prompt_of(example).split())
        return {token: alike[int(token) > tokens, int(token) % 5] for token in found}

    def further(example: Example, rng: np.random.Generator) -> Iterator[str]:
        used = set(prompt_of(example).split())
        free = [t for t in rng.permutation(range(first, first + tokens)) if str(t) not in used]
        while free:
            one = free.pop()
            other = next((t for t in free if (t - one) % 5 in differences), None)
            if other is not None:
                free.remove(other)
                yield f"{one} {other}"

    return {
        "premise_order": Edit(
            "pairs swap places", "share of the pairs", SHARES, True, _premise_order
        ),
        "renaming": renaming("tokens are replaced", names, words_replaced),
        "irrelevant_facts": Edit(
            "pairs of other tokens are inserted",
            "pairs added",
            NUMBERS,
            True,
            lambda example, strength, rng: _with_pairs(
                example, islice(further(example, rng), int(strength)), strength, rng
            ),
            whole=True,
            largest=float("inf"),
        ),
        "contrast": contrast(
            "the token that is the answer is replaced",
            lambda example, rng: _contrast(example, names(example), rng),
        ),
    }


def _read(example: Example) -> tuple[list[str], str]:
    """Return the pairs and the queried token."""
    *tokens, query = prompt_of(example).split()
    return [f"{a} {b}" for a, b in zip(tokens[::2], tokens[1::2], strict=True)], query


def _written(example: Example, pairs: Sequence[str], query: str) -> Edited:
    return Edited(with_prompt(example, " ".join([*pairs, query, ""])))


def _premise_order(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
    pairs, query = _read(example)
    moved = swapped(pairs, strength, rng)
    return _written(example, moved, query) if moved != pairs else None


def _with_pairs(
    example: Example, added: Iterator[str], strength: float, rng: np.random.Generator
) -> Edited | None:
    pairs, query = _read(example)
    known = len(pairs)
    for pair in added:
        pairs.insert(int(rng.integers(len(pairs) + 1)), pair)
    return _written(example, pairs, query) if len(pairs) == known + strength else None


def _contrast(
    example: Example, names: Mapping[str, Collection[str]], rng: np.random.Generator
) -> Edited | None:
    pools = {token: pool for token, pool in names.items() if token != example.answer}
    unused = [t for t in names[example.answer] if t not in pools and t != example.answer]
    if not unused:
        return None
    new = {example.answer: unused[rng.integers(len(unused))]}
    edited = with_prompt(example, words_replaced(prompt_of(example), new))
    return Edited(with_answer(edited, new[example.answer]))
