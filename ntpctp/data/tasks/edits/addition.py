"""Edits of additions: the operands swapped, one digit changed."""

import re
from collections.abc import Callable, Mapping

import numpy as np

from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import (
    Edit,
    Edited,
    contrast,
    prompt_of,
    with_answer,
    with_prompt,
    with_strata,
)


def addition_edits(reverse: bool, allowed: Callable[[int, int], bool]) -> Mapping[str, Edit]:
    """Return the edits of a split.

    Args:
        reverse: whether answers have their last digit first.
        allowed: whether the split may have a pair of operands.
    """
    return {
        "premise_order": Edit(
            "the operands are swapped", "operands swapped", (0, 1), True, _swap, whole=True
        ),
        "contrast": contrast(
            "one digit of an operand is changed",
            lambda example, rng: _contrast(example, rng, reverse, allowed),
        ),
    }


def strata_of(a: int, b: int) -> tuple[tuple[str, str], ...]:
    """Return the number of carries in ``a + b``, and the number of digits of the larger operand.

    Leading zeros are not counted; 0 has one digit.

    >>> strata_of(95, 7)
    (('carries', '2'), ('digits', '2'))
    """
    # Each carry reduces the sum of the digits by 9.
    lost = sum(map(int, f"{a}{b}")) - sum(map(int, str(a + b)))
    return ("carries", str(lost // 9)), ("digits", str(len(str(max(a, b)))))


def _operands(example: Example) -> tuple[str, str]:
    match = re.fullmatch(r"(\d+)\+(\d+)=", prompt_of(example))
    assert match, prompt_of(example)
    return match[1], match[2]


def _swap(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
    a, b = _operands(example)
    return Edited(with_prompt(example, f"{b}+{a}=")) if a != b else None


def _contrast(
    example: Example,
    rng: np.random.Generator,
    reverse: bool,
    allowed: Callable[[int, int], bool],
) -> Edited | None:
    operands = _operands(example)
    changes = [
        (pair[0], pair[1])
        for which, text in enumerate(operands)
        for place, old in enumerate(text)
        for digit in "0123456789"
        if digit != old
        for new in [text[:place] + digit + text[place + 1 :]]
        for pair in [(new, operands[1]) if which == 0 else (operands[0], new)]
        if allowed(int(pair[0]), int(pair[1]))
    ]
    if not changes:
        return None
    one, other = changes[rng.integers(len(changes))]
    a, b = int(one), int(other)
    total = f"{a + b:0{len(example.answer)}d}"
    edited = with_answer(with_prompt(example, f"{one}+{other}="), total[::-1] if reverse else total)
    return Edited(with_strata(edited, **dict(strata_of(a, b))))
