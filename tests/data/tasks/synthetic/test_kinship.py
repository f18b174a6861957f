"""Kinship against families that are built from couples, without any rule of composition."""

import re
from collections import Counter

import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.kinship import Kinship
from ntpctp.data.tasks.synthetic.kinship_words import COMPOSED, MEN, WOMEN, WORDS

RELATION = {word: relation for relation, words in WORDS.items() for word in words}


class Family:
    """People, each with the couple they were born to and the couple they belong to.

    Facts make couples the same; that is all. Relatives who are not named are people too.
    """

    def __init__(self):
        self.people, self.same = [], {}

    def person(self, name=None):
        name = name or f"unnamed {len(self.people)}"
        if name not in self.people:
            self.people.append(name)
        return name

    def find(self, couple):
        while couple in self.same:
            couple = self.same[couple]
        return couple

    def born(self, name):
        return self.find(("born", name))

    def married(self, name):
        return self.find(("married", name))

    def unite(self, one, other):
        if one != other:
            self.same[one] = other

    def tell(self, of, relation, name):
        """Record that ``name`` is the ``relation`` of ``of``."""
        between = self.person()
        if relation == "child":
            self.unite(self.born(name), self.married(of))
        elif relation == "spouse":
            self.unite(self.married(name), self.married(of))
        elif relation == "sibling":
            self.unite(self.born(name), self.born(of))
        elif relation == "grandchild":
            self.tell(of, "child", between)
            self.tell(between, "child", name)
        elif relation == "sibling's child":
            self.tell(of, "sibling", between)
            self.tell(between, "child", name)
        elif relation == "child's spouse":
            self.tell(of, "child", between)
            self.tell(between, "spouse", name)
        else:
            self.tell(name, INVERSE[relation], of)

    def holds(self, of, relation, name):
        others = [person for person in self.people if person not in (of, name)]
        if relation == "child":
            return self.born(name) == self.married(of)
        if relation == "spouse":
            return self.married(name) == self.married(of)
        if relation == "sibling":
            return self.born(name) == self.born(of)
        if relation in INVERSE:
            return self.holds(name, INVERSE[relation], of)
        first, second = {
            "grandchild": ("child", "child"),
            "sibling's child": ("sibling", "child"),
            "child's spouse": ("child", "spouse"),
        }[relation]
        return any(self.holds(of, first, m) and self.holds(m, second, name) for m in others)


INVERSE = {
    "parent": "child",
    "grandparent": "grandchild",
    "parent's sibling": "sibling's child",
    "spouse's parent": "child's spouse",
}


def parse(example):
    """The facts as (of, relation, relative), and (person asked about, of whom)."""
    *sentences, question = re.split(r"(?<=\.) ", example.text("prompt").strip())
    facts = []
    for sentence in sentences:
        match = re.fullmatch(r"(\w+) is the ([\w-]+) of (\w+)\.", sentence)
        if match:
            relative, word, of = match.groups()
        else:
            of, word, relative = re.fullmatch(
                r"(\w+) has an? ([\w-]+) called (\w+)\.", sentence
            ).groups()
        assert (relative in WOMEN) == (WORDS[RELATION[word]][1] == word)
        facts.append((of, RELATION[word], relative))
    return facts, re.fullmatch(r"How is (\w+) related to (\w+)\?", question).groups()


def solve(example):
    """Every relation of the table that holds between the two."""
    facts, (name, of) = parse(example)
    family = Family()
    for fact in facts:
        family.person(fact[0]), family.person(fact[2])
    for fact in facts:
        family.tell(*fact)
    return {relation for relation in WORDS if family.holds(of, relation, name)}


@pytest.mark.parametrize("hops, side_facts", [(2, 0), (3, 2), (4, 0)])
def test_the_answer_and_nothing_else_holds(hops, side_facts):
    task = Kinship(hops=hops, side_facts=side_facts, train_size=250, test_size=100)
    for split, more in {"train": 0, "test": 0, "ood_hops": 1}.items():
        for example in task.split(split):
            facts, (name, of) = parse(example)
            assert len(facts) == hops + more + side_facts
            assert solve(example) == {RELATION[example.answer]}
            assert example.strata == (
                ("relation", RELATION[example.answer]),
                ("hops", str(hops + more)),
            )
            assert (name in WOMEN) == (WORDS[RELATION[example.answer]][1] == example.answer)
            assert name != of


def test_every_rule_of_composition():
    """A told chain of two gives the composed relation; every rule occurs in the data."""
    for (first, second), composed in COMPOSED.items():
        family = Family()
        for name in "AMB":
            family.person(name)
        family.tell("A", first, "M")
        family.tell("M", second, "B")
        assert {r for r in WORDS if family.holds("A", r, "B")} == {composed}
    seen = set()
    for example in Kinship(train_size=1500).split("train"):
        facts, (_, of) = parse(example)
        first = next(fact for fact in facts if fact[0] == of)
        second = next(fact for fact in facts if fact is not first)
        seen.add((first[1], second[1]))
    assert seen == set(COMPOSED)


def test_answers_are_equally_frequent():
    answers = Counter(RELATION[e.answer] for e in Kinship(train_size=3000).split("train"))
    assert set(answers) == set(COMPOSED.values()) and len(answers) == 9
    assert all(abs(n / 3000 - 1 / 9) < 0.025 for n in answers.values())


def test_husbands_have_one_wife():
    for example in Kinship(hops=3, train_size=1500).split("train"):
        couples = [(of, name) for of, relation, name in parse(example)[0] if relation == "spouse"]
        assert all((of in MEN) != (name in MEN) for of, name in couples)
        married = [person for couple in couples for person in couple]
        assert len(set(married)) == len(married)


def test_splits():
    options = {"train_size": 200, "test_size": 100}
    task = Kinship(**options)
    check_disjoint(task.all_splits())
    assert [e.key for e in Kinship(**options).split("test")] == [e.key for e in task.split("test")]
    other = {e.key for e in Kinship(seed=1, **options).split("train")}
    assert len(other & {e.key for e in task.split("train")}) < 5


def test_options_are_checked():
    with pytest.raises(
        ValidationError, match=r"= 22 people, who may all be of one gender, but .* 20"
    ):
        Kinship(hops=10, side_facts=10)


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of kinship 'ood'"):
        Kinship().split("ood")
