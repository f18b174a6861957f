"""Edits of PrOntoQA's examples: order, names, wording, side rules, and the other answer."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from ntpctp.data.example import Example
from ntpctp.data.tasks.edits.base import (
    Edit,
    Edited,
    contrast,
    prompt_of,
    with_answer,
    with_reasoning,
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
from ntpctp.data.tasks.synthetic.prontoqa_words import (
    PROPERTIES,
    OntologyRule,
    plural,
    predicate,
    with_article,
    wordings,
)

_SENTENCE = re.compile(r"(?:(Every|Each) )?(\w+) (?:is|are) (not )?(?:an? )?(\w+)\.")


def prontoqa_edits(kinds: tuple[str, ...], negation: bool) -> Mapping[str, Edit]:
    """Return the edits of a split.

    Args:
        kinds: the words for kinds of this split.
        negation: whether added rules may be negated.
    """
    return {
        "premise_order": premise_order(),
        "renaming": renaming(
            "people, kinds and properties get other names",
            lambda example: _names(example, kinds),
            _renamed,
        ),
        "irrelevant_facts": irrelevant_facts(
            "rules about kinds that no person in the example is",
            lambda example, rng: _side_rules(example, rng, kinds, negation),
        ),
        "paraphrase": paraphrase(
            "a rule gets another of its three wordings",
            lambda sentence: [w for w in _other_wordings(sentence, kinds) if w != sentence],
        ),
        **sentence_edits([*PEOPLE, *PROPERTIES, *kinds, *map(plural, kinds)]),
        "contrast": contrast(
            "two people swap their facts; with one person, the last rule changes",
            lambda example, rng: _contrast(example, kinds),
        ),
    }


@cache
def _singular(kinds: tuple[str, ...]) -> Mapping[str, str]:
    return {plural(kind): kind for kind in kinds}


def _read(sentence: str, kinds: tuple[str, ...]) -> OntologyRule:
    """Read a rule, or a fact about a person."""
    match = _SENTENCE.fullmatch(sentence)
    assert match, sentence
    quantifier, subject, denied, what = match.groups()
    singular = _singular(kinds)
    if not quantifier and subject not in PEOPLE:
        subject = singular[subject.lower()]
    what = singular.get(what, what)
    kind, adjective = (what, "") if what in kinds else ("", what)
    return OntologyRule(subject, kind, adjective, bool(denied))


def _premises(example: Example, kinds: tuple[str, ...]) -> dict[str, OntologyRule]:
    return {s: _read(s, kinds) for s in premises_and_question(prompt_of(example))[0]}


def _names(example: Example, kinds: tuple[str, ...]) -> dict[str, Collection[str]]:
    """Return all names in an example, each with its pool."""
    found: dict[str, Collection[str]] = {}
    for rule in _premises(example, kinds).values():
        found[rule.subject] = PEOPLE if rule.subject in PEOPLE else kinds
        found[rule.kind or rule.adjective] = kinds if rule.kind else PROPERTIES
    # A choice may occur nowhere else.
    return found | {choice: PROPERTIES for choice in example.choices if choice in PROPERTIES}


def _renamed(text: str, new: Mapping[str, str]) -> str:
    """Replace names: singular, plural, at the beginning of a sentence, after "a" or "an"."""
    forms = dict(new)
    for old, name in new.items():
        forms[plural(old)] = plural(name)
        forms[plural(old).capitalize()] = plural(name).capitalize()

    def replacement(match: re.Match[str]) -> str:
        article, word = match.groups()
        if word not in forms:
            return match[0]
        return with_article(forms[word]) if article else forms[word]

    return re.sub(r"\b(?:(an?) )?([A-Za-z]+)", replacement, text)


def _side_rules(
    example: Example, rng: np.random.Generator, kinds: tuple[str, ...], negation: bool
) -> Iterator[str]:
    """Yield rules whose subject no person is; their kinds and properties are new too."""
    used = _names(example, kinds).keys()
    subjects = iter([k for k in rng.permutation(kinds).tolist() if k not in used])
    adjectives = [p for p in rng.permutation(PROPERTIES).tolist() if p not in used]
    for subject, adjective in zip(subjects, adjectives, strict=False):
        denied, coin, way = bool(negation and rng.random() < 0.5), rng.random(), rng.random()
        kind = next(subjects, "") if coin < 0.5 else ""
        rule = OntologyRule(subject, kind, "" if kind else adjective, denied)
        options = wordings(rule)
        yield options[int(way * len(options))]


def _other_wordings(sentence: str, kinds: tuple[str, ...]) -> Sequence[str]:
    rule = _read(sentence, kinds)
    return () if rule.subject in PEOPLE else wordings(rule)


def _contrast(example: Example, kinds: tuple[str, ...]) -> Edited | None:
    premises = _premises(example, kinds)
    person = _asked(example)
    people = [rule.subject for rule in premises.values() if rule.subject in PEOPLE]
    change = _with_facts_swapped if len(people) == 2 else _with_last_rule_changed
    edited = change(example, premises, person)
    answers = [choice for choice in example.choices if choice != example.answer]
    return _proved(with_answer(edited, answers[0]), kinds, person)


def _asked(example: Example) -> str:
    question = premises_and_question(prompt_of(example))[1]
    return next(str(word) for word in re.findall(r"\w+", question) if word in PEOPLE)


def _with_facts_swapped(
    example: Example, premises: Mapping[str, OntologyRule], person: str
) -> Example:
    facts = {s: rule for s, rule in premises.items() if rule.subject in PEOPLE}
    (one, of_one), (other, of_other) = facts.items()
    new = {
        one: f"{of_one.subject} {predicate(of_other)}.",
        other: f"{of_other.subject} {predicate(of_one)}.",
    }
    return with_premises(example, [new.get(s, s) for s in premises])


def _with_last_rule_changed(
    example: Example, premises: Mapping[str, OntologyRule], person: str
) -> Example:
    """Negate the only rule that ends in a property, or give it the other choice."""
    last = next(s for s, rule in premises.items() if rule.adjective)
    rule = premises[last]
    if example.answer in PROPERTIES:
        other = next(choice for choice in example.choices if choice != example.answer)
        new, old = replace(rule, adjective=other), rule
    else:
        new, old = replace(rule, negated=not rule.negated), rule
    way = wordings(old).index(last)
    return with_premises(example, [wordings(new)[way] if s == last else s for s in premises])


def _proved(example: Example, kinds: tuple[str, ...], person: str) -> Edited:
    """Return an edited example; its reasoning, if any, becomes the proof of the new answer."""
    if not example.text("reasoning"):
        return Edited(example)
    premises = _premises(example, kinds)
    fact = next(s for s, rule in premises.items() if rule.subject == person)
    chains = _chains(premises, fact)
    question = premises_and_question(prompt_of(example))[1]
    asked = example.answer if example.answer in PROPERTIES else question.split()[-1].rstrip(".")
    ends = [chain for chain in chains if premises[chain[-1]].adjective]
    # Without negation a false statement names the other person's end: prove this person's end.
    about = [chain for chain in ends if premises[chain[-1]].adjective == asked]
    chain = (about or sorted(ends, key=len))[-1]
    steps = [fact]
    for sentence in chain[1:]:
        steps += [sentence, f"{person} {predicate(premises[sentence])}."]
    return Edited(with_reasoning(example, f"{' '.join(steps)}\n{example.answer_marker}"))


def _chains(premises: Mapping[str, OntologyRule], fact: str) -> list[list[str]]:
    """Return all chains of sentences that begin with a person's fact, shorter ones first."""
    chains = [[fact]]
    for chain in chains:
        at = premises[chain[-1]]
        if at.kind and not at.negated:
            chains += [[*chain, s] for s, rule in premises.items() if rule.subject == at.kind]
    return chains
