"""Edits of Kinship's examples: order, names, wording, side facts, another relation."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import (
    Edit,
    Edited,
    contrast,
    prompt_of,
    with_answer,
    with_strata,
    words_replaced,
)
from ntpctp.data.tasks.edits.generic import sentence_edits
from ntpctp.data.tasks.edits.premises import (
    irrelevant_facts,
    paraphrase,
    premise_order,
    premises_and_question,
    renaming,
    with_premises,
)
from ntpctp.data.tasks.synthetic.kinship_words import (
    COMPOSED,
    MANIFOLD,
    MEN,
    WOMEN,
    WORDS,
    wordings,
)

_IS = re.compile(r"(\w+) is the ([\w-]+) of (\w+)\.")
_HAS = re.compile(r"(\w+) has an? ([\w-]+) called (\w+)\.")
_QUESTION = re.compile(r"How is (\w+) related to (\w+)\?\s*")
_RELATION = {word: relation for relation, words in WORDS.items() for word in words}


class _Fact(NamedTuple):
    """``relative`` is the ``relation`` of ``of``."""

    of: str
    relation: str
    relative: str


def kinship_edits() -> Mapping[str, Edit]:
    """Return the edits of every split."""
    kin = [part for words in WORDS.values() for word in words for part in [word, *word.split("-")]]
    return {
        "premise_order": premise_order(),
        "renaming": renaming("people get other names of their gender", _names, words_replaced),
        "irrelevant_facts": irrelevant_facts(
            "facts about further relatives of people in the example", _side_facts
        ),
        "paraphrase": paraphrase("a fact gets its other wording", _otherwise),
        **sentence_edits([*MEN, *WOMEN, *kin]),
        "contrast": contrast("one relation in the chain is replaced", _contrast),
    }


def _read(premise: str) -> _Fact:
    if match := _IS.fullmatch(premise):
        return _Fact(match[3], _RELATION[match[2]], match[1])
    match = _HAS.fullmatch(premise)
    assert match, premise
    return _Fact(match[1], _RELATION[match[2]], match[3])


def _wordings(fact: _Fact) -> Sequence[str]:
    return wordings(fact.of, fact.relation, fact.relative, fact.relative in WOMEN)


def _names(example: Example) -> dict[str, Collection[str]]:
    words = re.findall(r"\w+", prompt_of(example))
    return {word: MEN for word in words if word in MEN} | {
        word: WOMEN for word in words if word in WOMEN
    }


def _otherwise(premise: str) -> Sequence[str]:
    return [wording for wording in _wordings(_read(premise)) if wording != premise]


def _side_facts(example: Example, rng: np.random.Generator) -> Iterator[str]:
    """Yield facts as in the task: a person may have several such relatives, so nothing follows."""
    names = _names(example)
    people = [p for p in rng.permutation([*MEN, *WOMEN]).tolist() if p not in names]
    for person in people:
        of = list(names)[rng.integers(len(names))]
        fact = _Fact(of, MANIFOLD[rng.integers(len(MANIFOLD))], person)
        yield _wordings(fact)[int(rng.integers(2))]


def _contrast(example: Example, rng: np.random.Generator) -> Edited | None:
    premises, question = premises_and_question(prompt_of(example))
    asked = _QUESTION.fullmatch(question)
    assert asked, question
    facts = [_read(premise) for premise in premises]
    chain = _chain(facts, asked[2], asked[1])
    changes = [(place, relation) for place in chain for relation in WORDS]
    for k in rng.permutation(len(changes)):
        place, relation = changes[k]
        changed = [*facts]
        changed[place] = facts[place]._replace(relation=relation)
        answer = _composition([changed[step] for step in chain])
        if answer is None or WORDS[answer][asked[1] in WOMEN] == example.answer:
            continue
        way = _wordings(facts[place]).index(premises[place])
        new = _wordings(changed[place])[way]
        edited = with_premises(example, [*premises[:place], new, *premises[place + 1 :]])
        return Edited(
            with_strata(with_answer(edited, WORDS[answer][asked[1] in WOMEN]), relation=answer)
        )
    return None


def _chain(facts: Sequence[_Fact], start: str, end: str) -> list[int]:
    """Return the places of the facts from ``start`` to ``end``; each person is a relative once."""
    chain: list[int] = []
    while end != start:
        place = next(k for k, fact in enumerate(facts) if fact.relative == end)
        chain.insert(0, place)
        end = facts[place].of
    return chain


def _composition(chain: Sequence[_Fact]) -> str | None:
    """Return the composition of a chain of relations; None if it is uncertain or impossible.

    Spouses have different genders, and the spouse of a spouse is the same person.
    """
    composed: str | None = None
    by_marriage = False
    for fact in chain:
        marries = fact.relation == "spouse"
        if marries and (by_marriage or (fact.of in WOMEN) == (fact.relative in WOMEN)):
            return None
        composed = COMPOSED.get((composed, fact.relation)) if composed else fact.relation
        if composed is None:
            return None
        by_marriage = marries
    return composed
