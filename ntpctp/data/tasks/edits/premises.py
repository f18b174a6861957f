"""Edits of premises and of the names in them, shared by the logical tasks.

The random draws do not depend on the strength: a stronger edit makes further changes.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import (
    SHARES,
    Edit,
    Edited,
    number_of,
    prompt_of,
    with_prompt,
    with_reasoning,
)

NUMBERS = (0.0, 2.0, 4.0, 8.0)
"""The default strengths of an edit that adds premises: their number."""

Wordings = Callable[[str], Sequence[str]]
"""Sentence -> its other wordings, possibly none."""


def premises_and_question(prompt: str) -> tuple[list[str], str]:
    """Cut a prompt into sentences; the last one, which may begin "True or false:", is the question.

    >>> premises_and_question("Max is shy. Every tree is a car. True or false: Max is not shy.")
    (['Max is shy.', 'Every tree is a car.'], 'True or false: Max is not shy.')
    """
    *premises, question = re.split(r"(?<=\.) (?=[A-Z])", prompt)
    return premises, question


def with_premises(example: Example, premises: Sequence[str]) -> Example:
    """Return ``example`` with other premises before its question."""
    return with_prompt(example, " ".join([*premises, premises_and_question(prompt_of(example))[1]]))


def swapped(items: Sequence[str], share: float, rng: np.random.Generator) -> list[str]:
    """Return ``items`` with a share of the pairs of different items swapped."""
    order = rng.permutation(len(items)).tolist()
    pairs = [(a, b) for a, b in zip(order[::2], order[1::2], strict=False) if items[a] != items[b]]
    moved = list(items)
    for a, b in pairs[: number_of(share, len(pairs))]:
        moved[a], moved[b] = items[b], items[a]
    return moved


def new_names(
    names: Mapping[str, Collection[str]], share: float, rng: np.random.Generator
) -> dict[str, str]:
    """Return new names for a share of ``names``, all different.

    Args:
        names: the names in an example, each with the pool of names for things of its type. If the
            whole pool is in use, names keep theirs; if few are unused, later names get the former
            names of earlier ones.
        share: of the names that can change.
        rng: chooses the names to change, and their new names.
    """
    pools: dict[int, list[str]] = {}
    for pool in names.values():
        if id(pool) not in pools:
            unused = sorted({*pool} - names.keys())
            pools[id(pool)] = [unused[k] for k in rng.permutation(len(unused))]
    changing = [name for name, pool in names.items() if pools[id(pool)]]
    order = [changing[k] for k in rng.permutation(len(changing))]
    new = {}
    for name in order[: number_of(share, len(order))] if order else ():
        waiting = pools[id(names[name])]
        new[name] = waiting.pop(0)
        waiting.append(name)
    return new


def with_names(
    example: Example,
    new: Mapping[str, str],
    rename: Callable[[str, Mapping[str, str]], str],
) -> Edited:
    """Replace names in all texts of an example.

    Args:
        example: with segments.
        new: old name -> new name.
        rename: replaces names in a text.
    """
    edited = replace(
        example,
        segments=tuple(replace(s, text=rename(s.text, new)) for s in example.segments),
        choices=tuple(rename(choice, new) for choice in example.choices),
        references=tuple((name, rename(text, new)) for name, text in example.references),
    )
    return Edited(edited, tuple((name, old) for old, name in new.items()))


def premise_order() -> Edit:
    """Return the edit that swaps premises."""

    def change(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
        premises, _ = premises_and_question(prompt_of(example))
        moved = swapped(premises, strength, rng)
        return Edited(with_premises(example, moved)) if moved != premises else None

    return Edit("premises swap places", "share of the premises", SHARES, True, change)


def renaming(
    description: str,
    names: Callable[[Example], Mapping[str, Collection[str]]],
    rename: Callable[[str, Mapping[str, str]], str],
) -> Edit:
    """Return the edit that renames: ``rename`` replaces ``names`` by ``new_names``."""

    def change(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
        new = new_names(names(example), strength, rng)
        return with_names(example, new, rename) if new else None

    return Edit(description, "share of the names", SHARES, True, change)


def paraphrase(description: str, wordings: Wordings) -> Edit:
    """Return the edit that rewords premises, also where the reasoning quotes them."""

    def change(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
        premises, _ = premises_and_question(prompt_of(example))
        others = [wordings(premise) for premise in premises]
        places = [k for k, other in enumerate(others) if other]
        if not places:
            return None
        order, which = rng.permutation(places).tolist(), rng.random(len(premises))
        new = {
            premises[k]: others[k][int(which[k] * len(others[k]))]
            for k in order[: number_of(strength, len(order))]
        }
        edited = with_premises(example, [new.get(premise, premise) for premise in premises])
        return Edited(with_reasoning(edited, _with_quotes_replaced(edited.text("reasoning"), new)))

    return Edit(description, "share of the premises with another wording", SHARES, True, change)


def irrelevant_facts(
    description: str, draw: Callable[[Example, np.random.Generator], Iterator[str]]
) -> Edit:
    """Return the edit that inserts further premises.

    Args:
        description: of the inserted premises.
        draw: yields distinct premises that are irrelevant to the question, until the names run out.
    """

    def change(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
        premises, _ = premises_and_question(prompt_of(example))
        known = len(premises)
        for premise in islice(draw(example, rng), int(strength)):
            premises.insert(int(rng.integers(len(premises) + 1)), premise)
        enough = len(premises) == known + strength
        return Edited(with_premises(example, premises)) if enough else None

    return Edit(
        description, "premises added", NUMBERS, True, change, whole=True, largest=float("inf")
    )


def _with_quotes_replaced(text: str, new: Mapping[str, str]) -> str:
    for old, sentence in new.items():
        text = text.replace(old, sentence)
    return text
