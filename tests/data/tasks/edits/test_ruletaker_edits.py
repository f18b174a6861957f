"""Edits of RuleTaker against a proof search over the edited words."""

import re

import numpy as np
import pytest

from ntpctp.data.tasks.synthetic.names import PEOPLE
from ntpctp.data.tasks.synthetic.prontoqa_words import PROPERTIES
from ntpctp.data.tasks.synthetic.ruletaker import RuleTaker
from tests.data.tasks.edits.edit_checks import check_contrast, check_kept, check_nested, stream
from tests.data.tasks.synthetic.test_ruletaker import failed, parse, proved


def solve(example):
    facts, rules, goal, denied = parse(example)
    return str((proved(goal, facts, rules) is not None) != denied)


def depth(example):
    facts, rules, goal, _ = parse(example)
    proof = proved(goal, facts, rules)
    return failed(goal, facts, rules) if proof is None else proof


@pytest.mark.parametrize("negation, number", [(True, 200), (False, 50)])
@pytest.mark.slow
def test_edits_keep_or_change_the_answer(negation, number):
    task = RuleTaker(negation=negation, train_size=600, test_size=200)
    counts = check_kept(task, solve, {*PEOPLE, *PROPERTIES}, number)
    assert set(counts) == {
        *("premise_order", "renaming", "irrelevant_facts", "paraphrase"),
        *("typos", "white_space", "case"),
    }
    assert all(count > 8.8 * number for count in counts.values())
    check_contrast(task, solve, number, least=0.95)
    check_nested(task, "train", ("renaming", "typos", "case"))


@pytest.mark.slow
def test_depth_is_a_stratum_also_after_a_contrast():
    task = RuleTaker(train_size=200, test_size=200)
    seen = set()
    for split in ("train", "test", "ood_depth"):
        for index, example in enumerate(task.split(split)):
            assert example.strata == (("depth", str(depth(example))),)
            edited = task.edits(split)["contrast"].apply(example, 1, stream("contrast", index))
            if edited:
                assert edited.example.strata == (("depth", str(depth(edited.example))),)
            seen.add(example.strata[0][1])
    assert {"0", "1", "2", "3"} <= seen


def test_the_contrast_is_one_premise():
    task = RuleTaker(train_size=200, test_size=1)
    by_word = []
    for index, example in enumerate(task.split("train")):
        edited = task.edits("train")["contrast"].apply(example, 1, stream("contrast", index))
        if edited is None:
            continue
        before, after = (re.split(r"(?<=\.) ", e.text("prompt")) for e in (example, edited.example))
        gone = [sentence for sentence in before if sentence not in after]
        new = [sentence for sentence in after if sentence not in before]
        assert (len(gone) <= 1 and len(new) <= len(gone)) or len(before) == len(after) + 1
        by_word.append(len(new))
        if new:
            pairs = zip(gone[0].split(), new[0].split(), strict=True)
            assert sum(a != b for a, b in pairs) == 1
    assert np.mean(by_word) > 0.5


def test_without_words_left_nothing_is_added():
    task = RuleTaker(num_people=len(PEOPLE), train_size=1, test_size=1)
    (example,) = task.split("train")
    edit = task.edits("train")["irrelevant_facts"]
    assert edit.apply(example, 32, stream("a", 0)) is not None
    assert edit.apply(example, 33, stream("a", 0)) is None  # 40 - 8 attributes for rules
