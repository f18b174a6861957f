"""Edits of ProsQA against a breadth-first search over the edited words."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ntpctp._core.errors import InputError
from ntpctp.data.tasks.edits.base import with_prompt
from ntpctp.data.tasks.synthetic.names import KINDS, PEOPLE
from ntpctp.data.tasks.synthetic.prosqa import ProsQA
from tests.data.tasks.edits.edit_checks import check_contrast, check_kept, check_nested, stream
from tests.data.tasks.synthetic.prosqa_reference import distances, parse

FEW = Path(__file__).parents[3] / "fixtures" / "prosqa_few.json"


def solve(example):
    graph, (person, *pair) = parse(example.text("prompt"))
    found = distances(graph, person)
    (right,) = [kind for kind in pair if kind in found]
    return f"{person} is a {right}."


def hops(example):
    graph, (person, *_) = parse(example.text("prompt"))
    return distances(graph, person)[solve(example).rstrip(".").split()[-1]]


@pytest.mark.slow
def test_edits_keep_or_change_the_answer():
    task = ProsQA(train_size=200, test_size=200)
    counts = check_kept(task, solve, {*PEOPLE, *KINDS}, without=("irrelevant_facts",))
    assert set(counts) == {
        *("premise_order", "renaming", "irrelevant_facts", "typos", "white_space", "case")
    }
    assert all(count == 1200 for name, count in counts.items() if name != "irrelevant_facts")
    assert counts["irrelevant_facts"] > 1000
    check_contrast(task, solve, least=0.95)
    check_nested(task, "train", ("renaming", "typos", "case"))


def test_published_items_are_edited_too():
    task = ProsQA(train_path=str(FEW), test_path=str(FEW))
    for example in task.split("test"):
        for name, edit in task.edits("test").items():
            edited = edit.apply(example, edit.strengths[1], stream(name, 0))
            if name in ("premise_order", "renaming", "irrelevant_facts"):
                assert solve(edited.example) == edited.example.answer
                assert edited.restored(edited.example.answer) == example.answer


def test_the_contrast_is_small_and_its_reasoning_a_shortest_path():
    task = ProsQA(reasoning=True, train_size=200, test_size=1)
    swapped = []
    for index, example in enumerate(task.split("train")):
        edited = task.edits("train")["contrast"].apply(example, 1, stream("contrast", index))
        if edited is None:
            continue
        before, after = (e.text("prompt").split(". ") for e in (example, edited.example))
        swapped.append(sum(a != b for a, b in zip(before, after, strict=True)))
        *steps, end = edited.example.text("reasoning").split("\n")
        assert end == "Answer: " and len(steps) == hops(edited.example)
        assert edited.example.strata == (("hops", str(len(steps))),)
        at = edited.example.text("prompt").split("Is ")[1].split()[0]
        for step in steps:
            assert f"{step} " in edited.example.text("prompt")
            subject, at_next = step.removeprefix("Every ").rstrip(".").split(" is a ")
            assert subject == at
            at = at_next
        assert edited.example.answer.endswith(f" {at}.")
    # Where one fact of each person does not do, all of theirs are swapped.
    assert len(swapped) > 190 and np.mean(np.array(swapped) == 2) > 0.3


def test_strata():
    for task in (ProsQA(train_size=200, test_size=50), ProsQA(test_path=str(FEW), train_size=4)):
        for split in ("train", "test"):
            for example in task.split(split):
                assert example.strata == (("hops", str(hops(example))),)


def test_an_item_without_a_way_to_its_answer_has_no_stratum(tmp_path):
    row = json.loads(FEW.read_text("utf-8"))[0]
    row["edges"] = [edge for edge in row["edges"] if edge[1] != row["target"]]
    file = tmp_path / "items.json"
    file.write_text(json.dumps([row]), "utf-8")
    (example,) = ProsQA(test_path=str(file)).split("test")
    assert example.strata == ()


def test_without_another_person_there_is_no_contrast():
    task = ProsQA(train_size=1, test_size=1)
    (example,) = task.split("train")
    alone = replace(with_prompt(example, "Tom is a impus. Is Tom a impus or wumpus?\n"), choices=())
    alone = replace(
        alone, segments=(alone.segments[0], replace(alone.segments[1], text="Tom is a impus."))
    )
    assert task.edits("train")["contrast"].apply(alone, 1, stream("a", 0)) is None


def test_other_sentences_are_named():
    task = ProsQA(train_size=1, test_size=1)
    (example,) = task.split("train")
    other = with_prompt(example, "Tom has an impus. Is Tom a impus or wumpus?\n")
    with pytest.raises(InputError, match=r"Expected facts like .* found 'Tom has an impus.'"):
        task.edits("train")["renaming"].apply(other, 1, stream("a", 0))
