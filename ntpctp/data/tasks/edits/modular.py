"""Edits of modular arithmetic: operands swapped if the operation commutes, one changed."""

from collections.abc import Callable, Mapping

import numpy as np

from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import Edit, Edited, contrast, prompt_of, with_answer, with_prompt


def modular_edits(
    commutes: bool, modulus: int, value: Callable[[int, int], int | None]
) -> Mapping[str, Edit]:
    """Return the edits of every split.

    Args:
        commutes: whether the operation gives the same for swapped operands.
        modulus: operands are less.
        value: the answer; None where the operation is not defined.
    """
    swap = Edit("the operands are swapped", "operands swapped", (0, 1), True, _swap, whole=True)
    return {
        **({"premise_order": swap} if commutes else {}),
        "contrast": contrast(
            "one operand is changed",
            lambda example, rng: _contrast(example, rng, modulus, value),
        ),
    }


def _operands(example: Example) -> tuple[int, str, int]:
    x, sign, y, _ = prompt_of(example).split()
    return int(x), sign, int(y)


def _swap(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
    x, sign, y = _operands(example)
    return Edited(with_prompt(example, f"{y} {sign} {x} = ")) if x != y else None


def _contrast(
    example: Example,
    rng: np.random.Generator,
    modulus: int,
    value: Callable[[int, int], int | None],
) -> Edited | None:
    x, sign, y = _operands(example)
    pairs = [(new, y) for new in range(modulus)] + [(x, new) for new in range(modulus)]
    for k in rng.permutation(len(pairs)):
        answer = value(*pairs[k])
        if answer is not None and str(answer) != example.answer:
            one, other = pairs[k]
            return Edited(
                with_answer(with_prompt(example, f"{one} {sign} {other} = "), str(answer))
            )
    return None
