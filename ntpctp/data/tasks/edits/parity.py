"""Edits of parities: irrelevant bits flipped, relevant ones reordered, one of them flipped."""

from collections.abc import Mapping, Sequence

import numpy as np

from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import (
    SHARES,
    Edit,
    Edited,
    contrast,
    number_of,
    prompt_of,
    with_answer,
    with_prompt,
)


def parity_edits(bits: int, relevant: Sequence[int]) -> Mapping[str, Edit]:
    """Return the edits of every split.

    Args:
        bits: length of the input.
        relevant: positions of the relevant bits.
    """
    others = [place for place in range(bits) if place not in relevant]
    flip = Edit(
        "irrelevant bits are flipped",
        "share of these bits",
        SHARES,
        True,
        lambda example, strength, rng: _flip(
            example, others, number_of(strength, len(others)), rng
        ),
    )
    return {
        "premise_order": Edit(
            "ones and zeros among the relevant bits are swapped",
            "share of the pairs of a one and a zero",
            SHARES,
            True,
            lambda example, strength, rng: _swap(example, relevant, strength, rng),
        ),
        **({"irrelevant_bits": flip} if others else {}),
        "contrast": contrast(
            "one relevant bit is flipped",
            lambda example, rng: _contrast(example, relevant, rng),
        ),
    }


def _flip(example: Example, places: Sequence[int], number: int, rng: np.random.Generator) -> Edited:
    bits = list(prompt_of(example))
    for place in rng.permutation(places)[:number]:
        bits[place] = "10"[int(bits[place])]
    return Edited(with_prompt(example, "".join(bits)))


def _swap(
    example: Example, relevant: Sequence[int], strength: float, rng: np.random.Generator
) -> Edited | None:
    bits = list(prompt_of(example))
    ones, zeros = (
        rng.permutation([place for place in relevant if bits[place] == bit]).tolist()
        for bit in "10"
    )
    pairs = list(zip(ones, zeros, strict=False))
    if not pairs:
        return None
    for one, zero in pairs[: number_of(strength, len(pairs))]:
        bits[int(one)], bits[int(zero)] = "0", "1"
    return Edited(with_prompt(example, "".join(bits)))


def _contrast(example: Example, relevant: Sequence[int], rng: np.random.Generator) -> Edited:
    flipped = _flip(example, relevant, 1, rng).example
    return Edited(with_answer(flipped, "10"[int(example.answer)]))
