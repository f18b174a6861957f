"""Rules about people against a proof search over the words."""

import re
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.ruletaker import RuleTaker
from ntpctp.data.tasks.synthetic.ruletaker_theory import TheoryRule, judge
from tests.data.tasks.synthetic.shortcuts import bag_of_words_accuracy


def parse(example):
    """Facts {(person, attribute)}, rules [([(attribute, negated)], head)], the statement."""
    text, statement = example.text("prompt").split(" True or false: ")
    facts, rules = set(), []
    for sentence in re.split(r"(?<=\.) ", text):
        match = re.fullmatch(r"If someone is (.+) then they are (\w+)\.", sentence)
        if match:
            body = [
                (part.removeprefix("not "), part.startswith("not "))
                for part in match[1].split(" and ")
            ]
            rules.append((body, match[2]))
            continue
        match = re.fullmatch(r"(.+) people are (\w+)\.", sentence)
        if match:
            rules.append(([(name, False) for name in match[1].lower().split(", ")], match[2]))
            continue
        facts.add(re.fullmatch(r"(\w+) is (\w+)\.", sentence).groups())
    person, denied, attribute = re.fullmatch(r"(\w+) is (not )?(\w+)\.\n", statement).groups()
    return facts, rules, (person, attribute), bool(denied)


def proved(goal, facts, rules):
    """Depth of the shallowest proof, or None: by search from the goal, without any order."""
    if goal in facts:
        return 0
    person, attribute = goal
    depths = []
    for body, head in rules:
        if head == attribute:
            parts = [
                failed((person, a), facts, rules) if no else proved((person, a), facts, rules)
                for a, no in body
            ]
            if None not in parts:
                depths.append(1 + max(parts))
    return min(depths, default=None)


def failed(goal, facts, rules):
    """Depth of the failure, or None if the goal can be proved."""
    if goal in facts:
        return None
    person, attribute = goal
    depths = [0]
    for body, head in rules:
        if head == attribute:
            parts = [
                proved((person, a), facts, rules) if no else failed((person, a), facts, rules)
                for a, no in body
            ]
            known = [depth for depth in parts if depth is not None]
            if not known:
                return None
            depths.append(1 + min(known))
    return max(depths)


@pytest.mark.parametrize("negation", [True, False])
def test_every_answer_follows_and_depths_are_uniform(negation):
    task = RuleTaker(negation=negation, train_size=600, test_size=60)
    depths = Counter()
    for split, allowed in {"train": range(3), "test": range(3), "ood_depth": [3]}.items():
        for example in task.split(split):
            facts, rules, goal, denied = parse(example)
            proof = proved(goal, facts, rules)
            assert (proof is None) != (failed(goal, facts, rules) is None)
            assert example.answer == str((proof is not None) != denied)
            assert len(rules) == 8 and len({person for person, _ in facts}) == 3
            assert negation or not any(no for body, _ in rules for _, no in body)
            if proof is not None:
                assert proof in allowed
                depths[split, proof] += 1
    total = sum(n for (split, _), n in depths.items() if split == "train")
    assert abs(total / 600 - 0.5) < 0.08
    assert all(abs(depths["train", d] / total - 1 / 3) < 0.1 for d in range(3))


def test_depths_by_hand():
    # Fact 0. 0 > 1; 1 and not 2 > 3; 2 > 4; not 3 > 5.
    rules = [
        TheoryRule(((0, False),), 1),
        TheoryRule(((1, False), (2, True)), 3),
        TheoryRule(((2, False),), 4),
        TheoryRule(((3, True),), 5),
    ]
    assert judge(rules, {0}, 6) == [
        (True, 0),
        (True, 1),
        (False, 0),
        (True, 2),
        (False, 1),
        (False, 3),
    ]


def test_nothing_but_reasoning_tells_the_answer():
    rows, asked = [], Counter()
    for example in RuleTaker(train_size=3000).split("train"):
        rows.append((example.text("prompt"), example.answer == "True"))
        asked[parse(example)[3], example.answer] += 1
    # Denied or not, both answers are equally frequent.
    assert all(abs(n / 3000 - 0.25) < 3.5 * np.sqrt(0.25 * 0.75 / 3000) for n in asked.values())
    assert len(asked) == 4
    # 1,500 items: 0.045 is 3.5 standard errors.
    assert abs(bag_of_words_accuracy(rows[:1500], rows[1500:]) - 0.5) < 0.045


def test_splits():
    options = {"train_size": 100, "test_size": 50}
    task = RuleTaker(**options)
    check_disjoint(task.all_splits())
    assert [e.key for e in RuleTaker(**options).split("test")] == [
        e.key for e in task.split("test")
    ]
    other = {e.key for e in RuleTaker(seed=1, **options).split("train")}
    assert not other & {e.key for e in task.split("train")}


@pytest.mark.parametrize(
    "options, match",
    [
        ({"max_depth": 6, "longer_by": 2}, "= 8 needs at least 9 attributes and 8 rules, found 8"),
        ({"num_attributes": 4, "num_rules": 20}, "= 20, but 4 attributes give only 28 different"),
        ({"num_rules": 2}, "= 3 needs at least 4 attributes and 3 rules, found 8 and 2"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValidationError, match=match):
        RuleTaker(**options)


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of ruletaker 'ood'"):
        RuleTaker().split("ood")
