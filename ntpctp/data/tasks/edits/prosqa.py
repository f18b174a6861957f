"""Edits of ProsQA's examples, generated or published: order, names, facts, the other kind."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from ntpctp._core.errors import InputError
from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import (
    Edit,
    Edited,
    contrast,
    prompt_of,
    with_answer,
    with_reasoning,
    with_strata,
    words_replaced,
)
from ntpctp.data.tasks.edits.generic import sentence_edits
from ntpctp.data.tasks.edits.premises import (
    irrelevant_facts,
    premise_order,
    premises_and_question,
    renaming,
    with_premises,
)
from ntpctp.data.tasks.synthetic.names import KINDS, PEOPLE
from ntpctp.data.tasks.synthetic.prosqa_item import fact
from ntpctp.data.tasks.synthetic.prosqa_path import shortest_path

_FACT = re.compile(r"(?:Every )?(\w+) is a (\w+)\.")
_QUESTION = re.compile(r"Is (\w+) a (\w+) or (\w+)\?\s*")

Facts = Sequence[tuple[str, str]]
"""(subject, kind) of every premise."""


class _Read(NamedTuple):
    facts: Facts
    person: str
    right: str
    wrong: str


def prosqa_edits() -> Mapping[str, Edit]:
    """Return the edits of every split."""
    return {
        "premise_order": premise_order(),
        "renaming": renaming("people and kinds get other names", _names, words_replaced),
        "irrelevant_facts": irrelevant_facts("facts about kinds that no person is", _further_facts),
        **sentence_edits([*PEOPLE, *KINDS]),
        "contrast": contrast("two people swap one fact each, or all of them", _contrast),
    }


def _read(example: Example) -> _Read:
    premises, question = premises_and_question(prompt_of(example))
    facts, asked = [], _QUESTION.fullmatch(question)
    for premise in premises:
        match = _FACT.fullmatch(premise)
        if match is None or asked is None:
            raise InputError(
                f"{example.source or 'an example'}: cannot edit it. Expected facts like 'Every "
                f"impus is a wumpus.' and a question like 'Is Max a wumpus or yumpus?', found "
                f"{premise[:60]!r} and {question[:60]!r}"
            )
        facts.append((match[1], match[2]))
    assert asked
    person, *pair = asked.groups()
    right = example.answer.rstrip(".").split()[-1]
    return _Read(facts, person, right, pair[pair[0] == right])


def _names(example: Example) -> dict[str, Collection[str]]:
    words = dict.fromkeys(word for fact in _read(example).facts for word in fact)
    return {word: PEOPLE if word[0].isupper() else KINDS for word in words}


def _further_facts(example: Example, rng: np.random.Generator) -> Iterator[str]:
    """Yield facts whose subject is a new kind, about kinds of the example that are not queried."""
    read, names = _read(example), _names(example)
    known = [
        name
        for name, pool in names.items()
        if pool is KINDS and name not in (read.right, read.wrong)
    ]
    for subject in rng.permutation(KINDS).tolist():
        if subject not in names and known:
            yield fact(subject, known[rng.integers(len(known))])


def _contrast(example: Example, rng: np.random.Generator) -> Edited | None:
    """Swap a minimal set of facts of two people that makes the other kind alone correct."""
    read = _read(example)
    people = {subject for subject, _ in read.facts if subject[0].isupper()} - {read.person}
    others = [
        person
        for person in sorted(people)
        if shortest_path(read.facts, person, read.wrong)
        and not shortest_path(read.facts, person, read.right)
    ]
    if not others:
        return None
    other = others[rng.integers(len(others))]
    mine, theirs = ([f for f in read.facts if f[0] == p] for p in (read.person, other))
    pairs = list(product(mine, theirs))
    for k in rng.permutation(len(pairs)):
        (_, my_kind), (_, their_kind) = pairs[k]
        changed = {pairs[k][0]: (read.person, their_kind), pairs[k][1]: (other, my_kind)}
        facts = [changed.get(f, f) for f in read.facts]
        if len(set(facts)) == len(facts) and _is_only(facts, read.person, read.wrong, read.right):
            return _answered(example, facts, read)
    names = {read.person: other, other: read.person}
    facts = [(names.get(subject, subject), kind) for subject, kind in read.facts]
    return (
        _answered(example, facts, read)
        if _is_only(facts, read.person, read.wrong, read.right)
        else None
    )


def _is_only(facts: Facts, person: str, one: str, other: str) -> bool:
    """Whether a person is of the kind ``one`` and not of the kind ``other``."""
    return bool(shortest_path(facts, person, one)) and not shortest_path(facts, person, other)


def _answered(example: Example, facts: Facts, read: _Read) -> Edited:
    steps = shortest_path(facts, read.person, read.wrong) or []
    edited = with_answer(
        with_premises(example, [fact(*f) for f in facts]), fact(read.person, read.wrong)
    )
    lines = "\n".join([*(fact(*step) for step in steps), example.answer_marker])
    return Edited(with_strata(with_reasoning(edited, lines), hops=len(steps)))
