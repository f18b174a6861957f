"""Edits of Kinship against families that are built from the edited facts."""

import pytest

from ntpctp.data.tasks.synthetic.kinship import Kinship
from ntpctp.data.tasks.synthetic.kinship_words import MEN, WOMEN, WORDS
from tests.data.tasks.edits.edit_checks import check_contrast, check_kept, check_nested, stream
from tests.data.tasks.synthetic.test_kinship import RELATION, parse
from tests.data.tasks.synthetic.test_kinship import solve as relations


def solve(example):
    (relation,) = relations(example)
    _, (name, _) = parse(example)
    return WORDS[relation][name in WOMEN]


@pytest.mark.parametrize("options, number", [({}, 200), ({"hops": 3, "side_facts": 2}, 100)])
@pytest.mark.slow
def test_edits_keep_or_change_the_answer(options, number):
    task = Kinship(train_size=600, test_size=200, **options)
    entities = {*MEN, *WOMEN, *RELATION}
    counts = check_kept(task, solve, entities, number, without=("irrelevant_facts",))
    assert set(counts) == {
        *("premise_order", "renaming", "irrelevant_facts", "paraphrase"),
        *("typos", "white_space", "case"),
    }
    assert all(count == 9 * number for count in counts.values())
    # Some chains compose to something else by no one change.
    check_contrast(task, solve, number, least=0.9)
    check_nested(task, "train", ("renaming", "typos", "case"))


def test_the_contrast_changes_one_relation():
    task = Kinship(train_size=200, test_size=200)
    found = 0
    for split in ("train", "test", "ood_hops"):
        for index, example in enumerate(task.split(split)):
            edited = task.edits(split)["contrast"].apply(example, 1, stream("contrast", index))
            if edited is None:
                continue
            found += 1
            before, after = parse(example)[0], parse(edited.example)[0]
            assert sum(a != b for a, b in zip(before, after, strict=True)) == 1
            assert [(a, b) for a, _, b in before] == [(a, b) for a, _, b in after]
            relation = dict(edited.example.strata)["relation"]
            assert relation == RELATION[edited.example.answer]
            couples = [(a, b) for a, what, b in after if what == "spouse"]
            assert all((a in MEN) != (b in MEN) for a, b in couples)
    assert found > 500


def test_names_keep_their_gender():
    task = Kinship(train_size=100, test_size=1)
    for index, example in enumerate(task.split("train")):
        edited = task.edits("train")["renaming"].apply(example, 1, stream("renaming", index))
        assert len(edited.renamed) == 3
        assert all((new in MEN) == (old in MEN) for new, old in edited.renamed)
        assert edited.example.answer == example.answer


def test_without_names_left_nothing_is_added():
    task = Kinship(train_size=1, test_size=1)
    (example,) = task.split("train")
    edit = task.edits("train")["irrelevant_facts"]
    assert edit.apply(example, 37, stream("a", 0)) is not None
    assert edit.apply(example, 38, stream("a", 0)) is None
