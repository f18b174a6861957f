"""What edits do to a list of premises and to the names in them; shared by the tasks of logic.

Whatever is drawn does not depend on the strength: a stronger edit does more of the same.
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
"""Usual strengths of an edit that adds so many premises."""

Wordings = Callable[[str], Sequence[str]]
"""The other wordings of a sentence, perhaps none."""


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
    """Return ``items`` with a share of them in another place: pairs of different ones swapped."""
    order = rng.permutation(len(items)).tolist()
    pairs = [(a, b) for a, b in zip(order[::2], order[1::2], strict=False) if items[a] != items[b]]
    moved = list(items)
    for a, b in pairs[: number_of(share, len(pairs))]:
        moved[a], moved[b] = items[b], items[a]
    return moved


def new_names(
    names: Mapping[str, Collection[str]], share: float, rng: np.random.Generator
) -> dict[str, str]:
    """Return another name for a share of ``names``, no name for two things.

    Args:
        names: the names in an example, each with the pool that it is from and a new one may be
            taken from. A name whose pool is used up keeps it; where only some are left over,
            later ones get the names that earlier ones have given up.
        share: of the names that can change.
        rng: draws which.
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
    """Return ``example`` with new names in all that it says.

    Args:
        example: made of segments.
        new: new names by old ones.
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
    """Return the edit that gives other names: ``new_names`` of ``names``, put in by ``rename``."""

    def change(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
        new = new_names(names(example), strength, rng)
        return with_names(example, new, rename) if new else None

    return Edit(description, "share of the names", SHARES, True, change)


def paraphrase(description: str, wordings: Wordings) -> Edit:
    """Return the edit that words premises otherwise, in the reasoning too, where it quotes them."""

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
        return Edited(with_reasoning(edited, _quoted_anew(edited.text("reasoning"), new)))

    return Edit(description, "share of the premises with another wording", SHARES, True, change)


def irrelevant_facts(
    description: str, draw: Callable[[Example, np.random.Generator], Iterator[str]]
) -> Edit:
    """Return the edit that puts premises between the others.

    Args:
        description: what they are about.
        draw: yields premises that have no bearing on the question, all different, as long as
            there are names for them.
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


def _quoted_anew(text: str, new: Mapping[str, str]) -> str:
    for old, sentence in new.items():
        text = text.replace(old, sentence)
    return text
