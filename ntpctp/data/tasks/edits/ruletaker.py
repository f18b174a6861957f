"""Edits of RuleTaker's examples: order, names, wording, further premises, the other answer."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
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
from ntpctp.data.tasks.synthetic.names import PEOPLE
from ntpctp.data.tasks.synthetic.prontoqa_words import PROPERTIES
from ntpctp.data.tasks.synthetic.ruletaker_theory import (
    TheoryRule,
    adjectives_first,
    condition_first,
    judge,
)

_CONDITION = re.compile(r"If someone is (.+) then they are (\w+)\.")
_ADJECTIVES = re.compile(r"(.+) people are (\w+)\.")
_FACT = re.compile(r"(\w+) is (\w+)\.")
_STATEMENT = re.compile(r"True or false: (\w+) is (not )?(\w+)\.\s*")

_Fact = tuple[str, str]  # person, attribute
_WordedRule = tuple[tuple[tuple[str, bool], ...], str]  # ((attribute, denied), ...), head


class _Statement(NamedTuple):
    person: str
    denied: bool
    attribute: str


def ruletaker_edits() -> Mapping[str, Edit]:
    """Return the edits of every split."""
    return {
        "premise_order": premise_order(),
        "renaming": renaming("people and attributes get other names", _names, _renamed),
        "irrelevant_facts": irrelevant_facts(
            "facts about other people, and rules for attributes that no rule depends on",
            _further_premises,
        ),
        "paraphrase": paraphrase("a rule without negation gets its other wording", _otherwise),
        **sentence_edits([*PEOPLE, *PROPERTIES]),
        "contrast": contrast(
            "the person or attribute of a fact is replaced, or one premise is removed", _contrast
        ),
    }


def _read(premise: str) -> _Fact | _WordedRule:
    if match := _CONDITION.fullmatch(premise):
        parts = match[1].split(" and ")
        return tuple((p.removeprefix("not "), p.startswith("not ")) for p in parts), match[2]
    if match := _ADJECTIVES.fullmatch(premise):
        return tuple((name, False) for name in match[1].lower().split(", ")), match[2]
    fact = _FACT.fullmatch(premise)
    assert fact, premise
    return fact[1], fact[2]


def _statement(example: Example) -> _Statement:
    match = _STATEMENT.fullmatch(premises_and_question(prompt_of(example))[1])
    assert match, prompt_of(example)
    return _Statement(match[1], bool(match[2]), match[3])


def _names(example: Example) -> dict[str, Collection[str]]:
    words = re.findall(r"\w+", prompt_of(example))
    people = {word: PEOPLE for word in words if word in PEOPLE}
    return people | {w.lower(): PROPERTIES for w in words if w.lower() in PROPERTIES}


def _renamed(text: str, new: Mapping[str, str]) -> str:
    """Replace names; an attribute may begin a sentence."""
    capital = {old.capitalize(): name.capitalize() for old, name in new.items()}
    return words_replaced(text, {**capital, **new})


def _further_premises(example: Example, rng: np.random.Generator) -> Iterator[str]:
    """Yield facts about people, and rules for attributes, that are not in the example."""
    names = _names(example)
    known = [name for name, pool in names.items() if pool is PROPERTIES]
    people = [p for p in rng.permutation(PEOPLE).tolist() if p not in names]
    heads = [p for p in rng.permutation(PROPERTIES).tolist() if p not in names]
    facts = [(person, attribute) for person in people for attribute in known]
    facts = [facts[k] for k in rng.permutation(len(facts))]
    while facts or heads:
        coin, body = rng.random(), rng.permutation(known)[: rng.integers(1, 3)].tolist()
        if heads and (coin < 0.5 or not facts):
            wording = adjectives_first if rng.random() < 0.5 else condition_first
            yield wording([(name, False) for name in body], heads.pop())
        else:
            person, attribute = facts.pop()
            yield f"{person} is {attribute}."


def _otherwise(premise: str) -> Sequence[str]:
    body, head = _read(premise)
    if isinstance(body, str) or any(denied for _, denied in body):
        return ()
    wording = adjectives_first if premise.startswith("If ") else condition_first
    return (wording(body, head),)


def _contrast(example: Example, rng: np.random.Generator) -> Edited | None:
    """Make the first change, in random order, that reverses the answer; smaller ones first.

    In this order: another person or attribute in a fact, unless the old or new fact is the queried
    statement; one premise removed; any change of one fact.
    """
    premises, _ = premises_and_question(prompt_of(example))
    statement = _statement(example)
    changes = _changes_of_facts(premises, statement.attribute)
    changes = [changes[k] for k in rng.permutation(len(changes))]
    plain = f"{statement.person} is {statement.attribute}."
    telling = [c for c in changes if plain in (c[1], premises[c[0]])]
    removed = [(int(k), "") for k in rng.permutation(len(premises))]
    for place, new in [*(c for c in changes if c not in telling), *removed, *telling]:
        edited = [*premises[:place], *([new] if new else []), *premises[place + 1 :]]
        holds, depth = _judged(edited, statement)
        if str(holds != statement.denied) != example.answer:
            new_answer = with_answer(with_premises(example, edited), str(holds != statement.denied))
            return Edited(with_strata(new_answer, depth=depth))
    return None


def _changes_of_facts(premises: Sequence[str], asked: str) -> list[tuple[int, str]]:
    """Return all (place, new fact) that differ from a fact in one word and are not stated yet.

    ``asked``, the queried attribute, is included, since it may occur in no premise.
    """
    read = [_read(premise) for premise in premises]
    facts = {k: fact for k, fact in enumerate(read) if isinstance(fact[0], str)}
    people = dict.fromkeys(fact[0] for fact in facts.values())
    attributes = dict.fromkeys([asked, *(a for one in read for a in _attributes(one))])
    return [
        (k, f"{new[0]} is {new[1]}.")
        for k, (person, attribute) in facts.items()
        for new in [*((p, attribute) for p in people), *((person, a) for a in attributes)]
        if new not in facts.values()
    ]


def _attributes(premise: _Fact | _WordedRule) -> list[str]:
    body, last = premise
    return [last] if isinstance(body, str) else [*(name for name, _ in body), last]


def _judged(premises: Sequence[str], statement: _Statement) -> tuple[bool, int]:
    """Return whether the queried attribute holds, regardless of negation, and its depth."""
    read = [_read(premise) for premise in premises]
    needs: dict[str, set[str]] = {statement.attribute: set()}
    for body, head in read:
        needs.setdefault(head, set()).update([] if isinstance(body, str) else dict(body))
    order = list(TopologicalSorter(needs).static_order())
    number = {name: k for k, name in enumerate(order)}
    rules = [
        TheoryRule(tuple((number[name], denied) for name, denied in body), number[head])
        for body, head in read
        if not isinstance(body, str)
    ]
    facts = {number[what] for who, what in read if who == statement.person}
    return judge(rules, facts, len(order))[number[statement.attribute]]
