"""Edits of SimpleLogic's examples: order, names, further facts and rules, the other answer."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

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
    with_strata,
    words_replaced,
)
from ntpctp.data.tasks.edits.generic import generic_edits
from ntpctp.data.tasks.edits.premises import NUMBERS, renaming, swapped
from ntpctp.data.tasks.synthetic.prontoqa_words import PROPERTIES
from ntpctp.data.tasks.synthetic.simple_logic_theory import Theory, failure_depths, proof_depths

_PROMPT = re.compile(r"Facts: (.+)\. Rules: (.+)\. Query: (\w+)(\s*)")


class _Read(NamedTuple):
    facts: list[str]
    rules: list[str]
    query: str
    end: str


def simple_logic_edits(max_depth: int) -> Mapping[str, Edit]:
    """Return the edits of every split.

    Typing errors and case are omitted, since nearly every word is a predicate.

    Args:
        max_depth: limit of the depth of false predicates.
    """
    return {
        "premise_order": Edit(
            "facts are swapped with facts, and rules with rules",
            "share of the facts and of the rules",
            SHARES,
            True,
            _premise_order,
        ),
        "renaming": renaming(
            "predicates get other names",
            lambda example: dict.fromkeys(_names(example), PROPERTIES),
            words_replaced,
        ),
        "irrelevant_facts": Edit(
            "facts and rules are added that prove predicates no rule depends on",
            "premises added",
            NUMBERS,
            True,
            _irrelevant_facts,
            whole=True,
            largest=float("inf"),
        ),
        "white_space": generic_edits()["white_space"],
        "contrast": contrast(
            "one fact is replaced, or one premise is removed",
            lambda example, rng: _contrast(example, rng, max_depth),
        ),
    }


def _read(example: Example) -> _Read:
    match = _PROMPT.fullmatch(prompt_of(example))
    assert match, prompt_of(example)
    facts, rules = ([] if text == "none" else text.split(", ") for text in match.groups()[:2])
    return _Read(facts, rules, match[3], match[4])


def _written(example: Example, read: _Read) -> Example:
    facts, rules = (", ".join(items) or "none" for items in (read.facts, read.rules))
    return with_prompt(example, f"Facts: {facts}. Rules: {rules}. Query: {read.query}{read.end}")


def _names(example: Example) -> list[str]:
    """Return the predicates in the order of the text."""
    facts, rules, query, _ = _read(example)
    return list(dict.fromkeys(re.findall(r"\w+", " ".join([*facts, *rules, query]))))


def _premise_order(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
    read = _read(example)
    moved = read._replace(
        facts=swapped(read.facts, strength, rng), rules=swapped(read.rules, strength, rng)
    )
    return Edited(_written(example, moved)) if moved != read else None


def _irrelevant_facts(example: Example, strength: float, rng: np.random.Generator) -> Edited | None:
    read = _read(example)
    facts, rules = list(read.facts), list(read.rules)
    for is_rule, premise in islice(_further_premises(example, rng), int(strength)):
        items = rules if is_rule else facts
        items.insert(int(rng.integers(len(items) + 1)), premise)
    added = len(facts) - len(read.facts) + len(rules) - len(read.rules)
    if added < strength:
        return None
    return Edited(_written(example, read._replace(facts=facts, rules=rules)))


def _further_premises(example: Example, rng: np.random.Generator) -> Iterator[tuple[bool, str]]:
    """Yield (whether it is a rule, premise), each about a predicate that is not in the example."""
    known = _names(example)
    for name in rng.permutation(PROPERTIES).tolist():
        if name not in known:
            is_rule, size = bool(rng.random() < 0.5), rng.integers(1, 4)
            body = rng.permutation(known)[:size].tolist()
            yield is_rule, f"{' '.join(body)} > {name}" if is_rule else name


def _contrast(example: Example, rng: np.random.Generator, max_depth: int) -> Edited | None:
    """Make the first change, in random order, that reverses the answer; smaller ones first.

    In this order: a fact replaced by another predicate, without the queried one; one premise
    removed; a fact replaced by or from the query, or the query added as a fact.
    """
    read = _read(example)
    changes = [
        read._replace(facts=[*read.facts[:k], name, *read.facts[k + 1 :]])
        for k, fact in enumerate(read.facts)
        for name in _names(example)
        if name not in read.facts
    ]
    changes = [changes[k] for k in rng.permutation(len(changes))]
    indirect = [c for c in changes if (read.query in c.facts) == (read.query in read.facts)]
    removed = [
        *(
            read._replace(facts=read.facts[:k] + read.facts[k + 1 :])
            for k in range(len(read.facts))
        ),
        *(
            read._replace(rules=read.rules[:k] + read.rules[k + 1 :])
            for k in range(len(read.rules))
        ),
    ]
    removed = [removed[k] for k in rng.permutation(len(removed))]
    direct = [c for c in changes if c not in indirect] or [
        read._replace(facts=[*read.facts, read.query])
    ]
    for changed in [*indirect, *removed, *direct]:
        holds, depth = _judged(changed, max_depth)
        if str(holds) != example.answer:
            answered = with_answer(_written(example, changed), str(holds))
            return Edited(with_strata(answered, depth=depth))
    return None


def _judged(read: _Read, max_depth: int) -> tuple[bool, int]:
    """Return whether the query holds, and its depth."""
    rules = [rule.split(" > ") for rule in read.rules]
    names = dict.fromkeys([read.query, *read.facts])
    for body, head in rules:
        names |= dict.fromkeys([*body.split(), head])
    number = {name: k for k, name in enumerate(names)}
    theory = Theory(
        len(number),
        [number[fact] for fact in read.facts],
        [(tuple(number[name] for name in body.split()), number[head]) for body, head in rules],
    )
    proved = proof_depths(theory)
    if 0 in proved:
        return True, proved[0]
    return False, failure_depths(theory, proved, max_depth)[0]
