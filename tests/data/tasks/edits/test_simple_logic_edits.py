"""Edits of SimpleLogic against forward and backward chaining over the edited words."""

import re

import pytest

from ntpctp.data.tasks.synthetic.prontoqa_words import PROPERTIES
from ntpctp.data.tasks.synthetic.simple_logic import SimpleLogic
from tests.data.tasks.edits.edit_checks import check_contrast, check_kept, check_nested, stream
from tests.data.tasks.synthetic.test_simple_logic import fails_within, parse, rounds


def solve(example):
    facts, rules, query = parse(example)
    return str(query in rounds(facts, rules)[-1])


def depth(example, most):
    facts, rules, query = parse(example)
    if solve(example) == "True":
        return next(k for k, known in enumerate(rounds(facts, rules)) if query in known)
    return next(
        (k for k in range(most) if fails_within(query, k, facts, rules)),
        most,
    )


@pytest.mark.parametrize("sampler", ["RP", "LP"])
@pytest.mark.slow
def test_edits_keep_or_change_the_answer(sampler):
    task = SimpleLogic(sampler=sampler, train_size=400, test_size=200)
    counts = check_kept(task, solve, PROPERTIES)
    assert set(counts) == {"premise_order", "renaming", "irrelevant_facts", "white_space"}
    assert all(count > 1700 for count in counts.values())
    # Some predicates hold for so many reasons that no one change makes them fail.
    check_contrast(task, solve, least=0.85)
    check_nested(task, "train", ("renaming",))


@pytest.mark.slow
def test_depth_is_a_stratum_also_after_a_contrast():
    task = SimpleLogic(train_size=200, test_size=200)
    seen = set()
    for split in ("train", "test", "ood_sampler"):
        for index, example in enumerate(task.split(split)):
            assert example.strata == (("depth", str(depth(example, 3))),)
            edited = task.edits(split)["contrast"].apply(example, 1, stream("contrast", index))
            if edited:
                new = edited.example
                # What holds may now be deeper than any item that is asked.
                assert new.strata == (("depth", str(depth(new, 3))),)
            seen.add(example.strata[0][1])
    assert seen == {"0", "1", "2", "3"}


def test_added_premises_are_about_other_predicates():
    task = SimpleLogic(train_size=100, test_size=1)
    for index, example in enumerate(task.split("train")):
        edited = task.edits("train")["irrelevant_facts"].apply(example, 8, stream("a", index))
        facts, rules, _ = parse(example)
        more_facts, more_rules, _ = parse(edited.example)
        known = set(re.findall(r"\w+", example.text("prompt")))
        assert len(more_facts) + len(more_rules) == len(facts) + len(rules) + 8
        assert not (more_facts - facts) & known
        new_rules = [rule for rule in more_rules if rule not in rules]
        assert not {head for _, head in new_rules} & known
        assert all(body <= known for body, _ in new_rules)


def test_without_words_left_nothing_is_added():
    task = SimpleLogic(max_predicates=40, min_predicates=40, train_size=1, test_size=1)
    (example,) = task.split("train")
    edit = task.edits("train")["irrelevant_facts"]
    assert edit.apply(example, 38, stream("a", 0)) is None
