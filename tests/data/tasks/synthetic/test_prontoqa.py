"""PrOntoQA against forward chaining over the words, and against guesses without reasoning."""

import re

import numpy as np
import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.names import KINDS, PEOPLE
from ntpctp.data.tasks.synthetic.prontoqa import PrOntoQA
from ntpctp.data.tasks.synthetic.prontoqa_words import (
    OTHER_KINDS,
    OTHER_REAL_KINDS,
    PROPERTIES,
    REAL_KINDS,
)
from tests.data.tasks.synthetic.shortcuts import bag_of_words_accuracy

NOUNS = {*KINDS, *OTHER_KINDS, *REAL_KINDS, *OTHER_REAL_KINDS}
SINGULAR = {noun + ("es" if noun[-1] == "s" else "s"): noun for noun in NOUNS} | {
    noun: noun for noun in NOUNS
}


def parse(sentence):
    """(subject, what it is, negated) of a fact or a rule, nouns in the singular."""
    subject, negated, predicate = re.fullmatch(
        r"(?:Every |Each )?(\w+) (?:is|are) (not )?(?:an? )?(\w+)\.?", sentence
    ).groups()
    subject = subject if subject in PEOPLE else SINGULAR[subject.lower()]
    assert predicate in PROPERTIES or predicate in SINGULAR
    return subject, SINGULAR.get(predicate, predicate), bool(negated)


def read(example):
    """The rules, the people's kinds, the question's words."""
    *sentences, question = re.split(
        r"(?<=\.) (?=[A-Z])", example.text("prompt").strip().replace("False: ", "")
    )
    parsed = [parse(sentence) for sentence in sentences]
    rules = [rule for rule in parsed if rule[0] not in PEOPLE]
    return rules, {person: kind for person, kind, _ in parsed if person in PEOPLE}, question


def closure(rules, kind):
    """Forward chaining to the fixpoint: {(what holds, negated): smallest number of rules}."""
    known = {(kind, False): 0}
    changed = True
    while changed:
        changed = False
        for subject, predicate, negated in rules:
            steps = known.get((subject, False))
            if steps is not None and (predicate, negated) not in known:
                known[predicate, negated] = steps + 1
                changed = True
    return known


def solve(example, negation=True):
    """The answer by forward chaining, and the number of rules that it takes."""
    rules, kinds, question = read(example)
    cloze = re.fullmatch(r"Fill in the blank: (\w+) is ___\.", question)
    if cloze:
        known = closure(rules, kinds[cloze[1]])
        found = [(what, n) for (what, no), n in known.items() if what in PROPERTIES and not no]
        assert len(found) == 1
        return found[0]
    person, what, negated = parse(question.removeprefix("True or false: "))
    known = closure(rules, kinds[person])
    if not negation:
        mine = next(n for (w, _), n in known.items() if n == max(known.values()))
        return str((what, negated) in known), mine
    assert ((what, True) in known) != ((what, False) in known)
    return str((what, negated) in known), known.get((what, negated), known.get((what, not negated)))


FORMS = [
    {"form": "original"},
    {"form": "cloze"},
    {"form": "original", "distractors": "irrelevant", "ordering": "postorder"},
    {"form": "cloze", "distractors": "irrelevant", "negation": False},
    {"form": "original", "distractors": "none", "ordering": "preorder"},
    {"form": "cloze", "distractors": "none"},
    {"form": "original", "ontology": "false", "hops": 1},
    {"form": "original", "negation": False},
]


@pytest.mark.parametrize("options", FORMS)
def test_every_answer_follows_in_as_many_hops_as_asked(options):
    task = PrOntoQA(train_size=200, test_size=100, **options)
    negation = options.get("negation", True)
    for split, more in {"train": 0, "test": 0, "ood_hops": 2, "ood_words": 0}.items():
        for example in task.split(split):
            assert solve(example, negation) == (example.answer, task.hops + more)
            assert example.strata == (("hops", str(task.hops + more)),)
            assert example.answer in example.choices and len(set(example.choices)) == 2


def test_a_thousand_items_of_the_default():
    for example in PrOntoQA(train_size=1000).split("train"):
        assert solve(example) == (example.answer, 3)


@pytest.mark.parametrize("form", ["original", "cloze"])
def test_the_reasoning_is_a_proof(form):
    task = PrOntoQA(form=form, reasoning=True, train_size=100, test_size=1)
    for example in task.split("train"):
        rules, kinds, question = read(example)
        *steps, end = re.split(r"(?<=\.)\s", example.text("reasoning"))
        assert end == "Answer: "
        person = parse(steps[0])[0]
        assert person in question and parse(steps[0])[1] == kinds[person]
        at = kinds[person]
        for rule, conclusion in zip(steps[1::2], steps[2::2], strict=True):
            assert f"{rule} " in example.text("prompt")  # in the words of the prompt
            subject, predicate, negated = parse(rule)
            assert subject == at and (subject, predicate, negated) in rules
            assert parse(conclusion) == (person, predicate, negated)
            at = predicate
        assert len(steps) == 1 + 2 * task.hops


@pytest.mark.parametrize("distractors", ["none", "relevant", "irrelevant"])
def test_number_of_rules(distractors):
    options = {} if distractors == "none" else {"side_rules": 5}
    task = PrOntoQA(distractors=distractors, train_size=20, test_size=20, **options)
    for split, hops in {"train": 3, "ood_hops": 5}.items():
        for example in task.split(split):
            rules, kinds, _ = read(example)
            chains = 1 if distractors == "none" else 2
            assert len(rules) == chains * hops + options.get("side_rules", 0)
            assert len(kinds) == chains
            on_path = {k for kind in kinds.values() for k, _ in closure(rules, kind)}
            subjects = {subject for subject, _, _ in rules}
            assert (subjects <= on_path) == (distractors != "irrelevant")


@pytest.mark.parametrize("ordering, sign", [("postorder", 1), ("preorder", -1)])
def test_order_of_the_rules(ordering, sign):
    task = PrOntoQA(ordering=ordering, train_size=50, test_size=1, reasoning=True)
    for example in task.split("train"):
        steps = re.split(r"(?<=\.)\s", example.text("reasoning"))[1:-1:2]
        places = [example.text("prompt").index(step) for step in steps]
        assert places == sorted(places)[::sign]


def test_words_of_the_splits():
    task = PrOntoQA(train_size=300, test_size=100)
    nouns = {
        split: {
            SINGULAR[w.lower()]
            for e in task.split(split)
            for w in re.findall(r"\w+", e.text("prompt"))
            if w.lower() in SINGULAR
        }
        for split in ("train", "test", "ood_hops", "ood_words")
    }
    assert nouns["train"] == nouns["test"] == nouns["ood_hops"] == set(KINDS)
    assert nouns["ood_words"] == set(OTHER_KINDS)
    assert not set(KINDS) & set(OTHER_KINDS) and not set(REAL_KINDS) & set(OTHER_REAL_KINDS)


@pytest.mark.parametrize("options", [FORMS[0], {"form": "original", "negation": False}])
@pytest.mark.slow
def test_no_bag_of_words_tells_the_answer(options):
    rows = [
        (example.text("prompt"), example.answer == "True")
        for example in PrOntoQA(train_size=5000, test_size=1, **options).split("train")
    ]
    balance = np.mean([label for _, label in rows])
    assert abs(balance - 0.5) < 4 * 0.5 / np.sqrt(5000)
    assert abs(bag_of_words_accuracy(rows[:2500], rows[2500:]) - 0.5) < 0.03


def test_counting_or_place_tells_nothing():
    """Of the two opposite rules, neither place nor the mentions of its kind tell which holds."""
    guesses = {"first": [], "more mentioned": []}
    for example in PrOntoQA(train_size=2000, test_size=1).split("train"):
        rules, _, question = read(example)
        _, what, negated = parse(question.removeprefix("True or false: "))
        ends = [(subject, no) for subject, predicate, no in rules if predicate == what]
        assert len(ends) == 2
        mentions = [sum(subject in rule for rule in rules) for subject, _ in ends]
        guesses["first"].append(str(ends[0][1] == negated) == example.answer)
        if mentions[0] != mentions[1]:
            guess = ends[int(mentions[1] > mentions[0])]
            guesses["more mentioned"].append(str(guess[1] == negated) == example.answer)
    for right in guesses.values():
        assert len(right) > 500
        assert abs(np.mean(right) - 0.5) < 3.5 * 0.5 / np.sqrt(len(right))


def test_same_options_same_examples_other_seed_others_and_disjoint_splits():
    small = {"train_size": 100, "test_size": 50}
    first, again, other = (
        {
            e.key
            for s in ("train", "test", "ood_hops", "ood_words")
            for e in PrOntoQA(seed=k, **small).split(s)
        }
        for k in (0, 0, 1)
    )
    assert first == again and not first & other
    check_disjoint(PrOntoQA(**small).all_splits())
    check_disjoint(
        PrOntoQA(hops=1, distractors="none", train_size=1000, test_size=150).all_splits()
    )


@pytest.mark.parametrize(
    "options, match",
    [
        ({"distractors": "none", "side_rules": 2}, "distractors: none excludes them"),
        (
            {"distractors": "none", "negation": False},
            "without negation and distractors every statement is true",
        ),
        (
            {"hops": 18},
            r"hops \+ longer_by = 20 and side_rules = 4 need 44 kinds, but there are 38",
        ),
        ({"form": "clozed"}, "Input should be 'original' or 'cloze'"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValidationError, match=match):
        PrOntoQA(**options)


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of prontoqa 'ood'"):
        PrOntoQA().split("ood")
