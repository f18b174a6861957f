"""SimpleLogic against forward chaining over the words, and against guesses from statistics."""

import re
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.simple_logic import (
    SimpleLogic,
    _sample_labels_first,
    _sample_rules_first,
)
from ntpctp.data.tasks.synthetic.simple_logic_theory import Theory, failure_depths, proof_depths
from tests.data.tasks.synthetic.shortcuts import bag_of_words_accuracy


def parse(example):
    """Facts, rules as (set of the body, head), and the query, all as words."""
    facts, rules, query = re.fullmatch(
        r"Facts: (.*)\. Rules: (.*)\. Query: (\w+)\n", example.text("prompt")
    ).groups()
    split = [rule.split(" > ") for rule in rules.split(", ")] if rules != "none" else []
    return (
        set(facts.split(", ")) - {"none"},
        [(set(body.split()), head) for body, head in split],
        query,
    )


def rounds(facts, rules):
    """Forward chaining to the fixpoint, all rules at once: what is known after each round."""
    known = [set(facts)]
    while True:
        new = known[-1] | {head for body, head in rules if body <= known[-1]}
        if new == known[-1]:
            return known
        known.append(new)


def fails_within(query, budget, facts, rules):
    """Backward chaining: whether every rule for ``query`` has failed after ``budget`` rounds."""
    if query in facts:
        return False
    bodies = [body for body, head in rules if head == query]
    return not bodies or (
        budget > 0
        and all(any(fails_within(p, budget - 1, facts, rules) for p in body) for body in bodies)
    )


@pytest.mark.parametrize("sampler, number", [("RP", 500), ("LP", 500)])
def test_every_answer_follows_and_depths_are_uniform(sampler, number):
    depths = Counter()
    for example in SimpleLogic(sampler=sampler, train_size=number).split("train"):
        facts, rules, query = parse(example)
        known = rounds(facts, rules)
        assert example.answer == str(query in known[-1])
        assert example.choices == ("True", "False")
        if example.answer == "True":
            depths[next(k for k, what in enumerate(known) if query in what)] += 1
    total = sum(depths.values())
    assert set(depths) == set(range(4)) and abs(total / number - 0.5) < 0.07
    assert all(abs(count / total - 0.25) < 0.09 for count in depths.values())


def test_depths_of_failure_against_backward_chaining():
    rng = generator(0, "test")
    seen = Counter()
    for sample in (_sample_rules_first, _sample_labels_first):
        for _ in range(60):
            theory = sample(rng, 8)
            facts, rules = set(theory.facts), [(set(body), head) for body, head in theory.rules]
            proved = proof_depths(theory)
            assert [
                {p for p, d in proved.items() if d <= k} for k in range(len(set(proved.values())))
            ] == (rounds(facts, rules) if facts else [])
            for p, depth in failure_depths(theory, proved, 3).items():
                seen[depth] += 1
                if depth < 3:
                    assert fails_within(p, depth, facts, rules)
                assert depth == 0 or not fails_within(p, depth - 1, facts, rules)
    assert all(seen[depth] > 5 for depth in range(4))


def test_depths_by_hand():
    # 0 is a fact; 0 > 1, 1 > 2; 3 has no rule; 3 > 4; 4 2 > 5; 6 > 6.
    theory = Theory(7, [0], [((0,), 1), ((1,), 2), ((3,), 4), ((2, 4), 5), ((6,), 6)])
    proved = proof_depths(theory)
    assert proved == {0: 0, 1: 1, 2: 2}
    assert failure_depths(theory, proved, 4) == {3: 0, 4: 1, 5: 2, 6: 4}


@pytest.mark.parametrize("sampler", ["RP", "LP"])
@pytest.mark.slow
def test_nothing_about_the_theory_tells_the_answer(sampler):
    rows, sizes = [], {"True": [], "False": []}
    task = SimpleLogic(sampler=sampler, max_depth=1, max_predicates=8, train_size=1600)
    for example in task.split("train"):
        facts, rules, _ = parse(example)
        sizes[example.answer].append((len(facts), len(rules)))
        rows.append((example.text("prompt"), example.answer == "True"))
    true, false = (np.array(sizes[answer]) for answer in ("True", "False"))
    error = np.sqrt(true.var(0) / len(true) + false.var(0) / len(false))
    assert (abs(true.mean(0) - false.mean(0)) < 3.5 * error).all()
    assert abs(len(true) / 1600 - 0.5) < 3.5 * 0.5 / np.sqrt(1600)
    # 800 items: 0.06 is 3.4 standard errors.
    assert abs(bag_of_words_accuracy(rows[:800], rows[800:]) - 0.5) < 0.06


def test_unbalanced_items_have_the_shortcut_of_the_paper():
    sizes = {"True": [], "False": []}
    for example in SimpleLogic(balanced=False, train_size=600).split("train"):
        facts, rules, query = parse(example)
        assert example.answer == str(query in rounds(facts, rules)[-1])
        sizes[example.answer].append(len(facts) + len(rules))
    assert np.mean(sizes["True"]) > np.mean(sizes["False"]) + 2


def test_shape_of_the_published_samplers():
    rng = generator(0, "shape")
    for sample in (_sample_rules_first, _sample_labels_first):
        for _ in range(100):
            n = int(rng.integers(5, 13))
            theory = sample(rng, n)
            assert all(1 <= len(body) <= 3 and head not in body for body, head in theory.rules)
            assert len(set(theory.facts)) == len(theory.facts) <= n
            assert len(theory.rules) <= 4 * n + 1
            if sample is _sample_rules_first:
                assert len(set(theory.rules)) == len(theory.rules)
            else:  # nothing but what was labelled true follows, and something of both sorts exists
                assert 0 < len(proof_depths(theory)) < n


def test_splits():
    options = {"train_size": 60, "test_size": 30}
    task = SimpleLogic(**options)
    check_disjoint(task.all_splits())
    assert [e.key for e in SimpleLogic(**options).split("train")] == [
        e.key for e in task.split("train")
    ]
    assert not {e.key for e in SimpleLogic(seed=1, **options).split("train")} & {
        e.key for e in task.split("train")
    }
    for name in ("test", "ood_sampler"):
        for example in task.split(name):
            facts, rules, query = parse(example)
            assert example.answer == str(query in rounds(facts, rules)[-1])


@pytest.mark.parametrize(
    "options, match",
    [
        ({"min_predicates": 13}, "min_predicates = 13 is greater than max_predicates = 12"),
        ({"max_depth": 6}, "depth 6 needs max_predicates of at least 14, found 12"),
        ({"max_predicates": 50}, "less than or equal to 40"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValidationError, match=match):
        SimpleLogic(**options)


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of simple_logic 'ood'"):
        SimpleLogic().split("ood")
