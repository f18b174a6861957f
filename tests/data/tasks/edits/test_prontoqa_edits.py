"""Edits of PrOntoQA against forward chaining over the edited words."""

import re
from itertools import pairwise

import pytest

from ntpctp.data.tasks.synthetic.names import PEOPLE
from ntpctp.data.tasks.synthetic.prontoqa import PrOntoQA
from ntpctp.data.tasks.synthetic.prontoqa_words import PROPERTIES
from tests.data.tasks.edits.edit_checks import check_contrast, check_kept, check_nested, stream
from tests.data.tasks.synthetic.test_prontoqa import NOUNS, SINGULAR, parse, read, solve

ENTITIES = {*NOUNS, *SINGULAR, *PEOPLE, *PROPERTIES}
SPLITS = ("train", "test", "ood_hops", "ood_words")
# Enough that every form of every word occurs.
SIZES = {"train_size": 1200, "test_size": 300}


def answer(example):
    return solve(example)[0]


def answer_without_negation(example):
    return solve(example, negation=False)[0]


def proof_follows(example):
    _, kinds, question = read(example)
    *steps, end = re.split(r"(?<=\.)\s", example.text("reasoning"))
    assert end == "Answer: "
    person, at, _ = parse(steps[0])
    assert person in question and kinds[person] == at
    for rule, conclusion in zip(steps[1::2], steps[2::2], strict=True):
        assert f"{rule} " in example.text("prompt")
        subject, what, negated = parse(rule)
        assert subject == at and parse(conclusion) == (person, what, negated)
        at = what
    asked = (example.answer, False)
    if "True or false" in example.text("prompt"):
        *_, statement = re.split(r"(?<=\.) |: ", example.text("prompt").strip())
        _, what, denied = parse(statement)
        asked = (what, denied == (example.answer == "True"))
    return parse(steps[-1])[1:] == asked


@pytest.mark.parametrize(
    "options, solver, number",
    [
        ({}, answer, 200),
        ({"form": "cloze", "reasoning": True}, answer, 200),
        ({"distractors": "none", "ontology": "false"}, answer, 50),
        ({"form": "cloze", "distractors": "none"}, answer, 50),
        ({"negation": False}, answer_without_negation, 50),
    ],
)
@pytest.mark.slow
def test_edits_keep_or_change_the_answer(options, solver, number):
    task = PrOntoQA(**SIZES, **options)
    counts = check_kept(task, solver, ENTITIES, number, without=("irrelevant_facts",))
    assert set(counts) == {
        *("premise_order", "renaming", "irrelevant_facts", "paraphrase"),
        *("typos", "white_space", "case"),
    }
    # Four splits and three strengths; where words run out, fewer facts are added.
    assert all(counts[name] == 12 * number for name in counts if name != "irrelevant_facts")
    assert counts["irrelevant_facts"] > 10 * number
    check_contrast(task, solver, number)


def test_a_stronger_edit_contains_the_weaker_one():
    task = PrOntoQA(train_size=40, test_size=1)
    check_nested(task, "train", ("renaming", "typos", "case"))


@pytest.mark.parametrize("split", SPLITS)
def test_no_word_of_another_split(split):
    task = PrOntoQA(train_size=40, test_size=40)
    pool = task._kinds(split)
    for index, example in enumerate(task.split(split)):
        for name, strength in (("renaming", 1), ("irrelevant_facts", 8)):
            edited = task.edits(split)[name].apply(example, strength, stream(name, index)).example
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", edited.text("prompt"))
            rules, kinds, _ = read(edited)
            subjects = {subject for subject, _, _ in rules}
            assert subjects | {*kinds.values()} <= {*pool}
            if name == "renaming":  # enough words are left for all of them to be new
                assert not subjects & {subject for subject, _, _ in read(example)[0]}
            else:
                assert len(rules) == len(read(example)[0]) + 8


@pytest.mark.parametrize("form", ["original", "cloze"])
@pytest.mark.parametrize("distractors", ["relevant", "none"])
def test_the_reasoning_is_edited_too(form, distractors):
    task = PrOntoQA(form=form, distractors=distractors, reasoning=True, train_size=100, test_size=1)
    for index, example in enumerate(task.split("train")):
        for name in ("premise_order", "renaming", "irrelevant_facts", "paraphrase", "contrast"):
            edited = task.edits("train")[name].apply(
                example, 1 if name != "irrelevant_facts" else 4, stream(name, index)
            )
            assert proof_follows(edited.example)


def test_without_words_left_nothing_is_added():
    task = PrOntoQA(hops=15, side_rules=4, train_size=10, test_size=1)
    edit = task.edits("ood_hops")["irrelevant_facts"]
    (example,) = task.split("ood_hops")
    assert edit.apply(example, 5, stream("a", 0)) is None


def sentences(edited):
    return re.split(r"(?<=\.) (?=[A-Z])", edited.example.text("prompt"))


def test_more_added_or_reworded_contains_less():
    task = PrOntoQA(train_size=40, test_size=1)
    adds, rewords = (task.edits("train")[n] for n in ("irrelevant_facts", "paraphrase"))
    for index, example in enumerate(task.split("train")):
        added = [
            sentences(adds.apply(example, strength, stream("a", index)))
            for strength in (0, 2, 4, 8)
        ]
        for fewer, more in pairwise(added):
            assert [s for s in more if s in fewer] == fewer and len(more) > len(fewer)
        original, *reworded = [
            sentences(rewords.apply(example, strength, stream("a", index)))
            for strength in rewords.strengths
        ]
        for fewer, more in pairwise(reworded):
            changed = [k for k, old in enumerate(original) if fewer[k] != old]
            assert changed and all(more[k] == fewer[k] for k in changed) and more != fewer
