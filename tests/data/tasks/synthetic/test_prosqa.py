"""ProsQA against a breadth-first search over the words, and against the published statistics."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.names import KINDS, PEOPLE
from ntpctp.data.tasks.synthetic.prosqa import ProsQA
from ntpctp.data.tasks.synthetic.prosqa_graph import draw
from ntpctp.data.tasks.synthetic.prosqa_item import read
from tests.data.tasks.synthetic.prosqa_reference import distances, parse, statistics

FIXTURES = Path(__file__).parents[3] / "fixtures"
FEW = FIXTURES / "prosqa_few.json"
PUBLISHED = json.loads((FIXTURES / "prosqa_statistics.json").read_text("utf-8"))
NUM_ITEMS = 1000


@pytest.fixture(scope="module")
def items():
    return [draw(generator(0, "test", index)) for index in range(NUM_ITEMS)]


@pytest.fixture(scope="module")
def numbers(items):
    rows = [statistics(item.model_dump()) for item in items]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_every_answer_follows_and_the_other_does_not(items):
    for item in items:
        graph, (person, *pair) = parse(item.question)
        right = item.answer.removeprefix(f"{person} is a ").removesuffix(".")
        (wrong,) = set(pair) - {right}
        found = distances(graph, person)
        assert right in found and wrong not in found
        # The wrong kind is not unreachable from everyone: some other person is one.
        assert any(wrong in distances(graph, name) for name in graph if name[0].isupper())


def test_steps_are_a_shortest_path_of_stated_facts(items):
    for item in items:
        graph, (person, *_) = parse(item.question)
        right = item.answer.split()[-1].rstrip(".")
        assert len(item.steps) == distances(graph, person)[right]
        at = person
        for step in item.steps:
            assert f"{step} " in item.question
            subject, at_next = step.removeprefix("Every ").rstrip(".").split(" is a ")
            assert subject == at
            at = at_next
        assert at == right


def test_the_graph_fields_say_what_the_question_says(items):
    for item in items:
        graph, _ = parse(item.question)
        names = item.idx_to_symbol
        assert sorted((names[a], names[b]) for a, b in item.edges) == sorted(
            (subject, kind) for subject, kinds in graph.items() for kind in kinds
        )
        assert len(set(names)) == len(names) and set(names) <= {*PEOPLE, *KINDS}


@pytest.mark.parametrize("name", PUBLISHED["mean and standard deviation"])
def test_means_are_those_of_the_published_file(numbers, name):
    mean, deviation = PUBLISHED["mean and standard deviation"][name]
    error = deviation * np.sqrt(1 / PUBLISHED["items"] + 1 / NUM_ITEMS)
    assert abs(numbers[name].mean() - mean) < 3.5 * error
    assert 0.8 < numbers[name].std(ddof=1) / deviation < 1.25


def test_hops_are_distributed_as_in_the_published_file(numbers):
    shares = PUBLISHED["share of items by hops"]
    assert numbers["hops"].min() == 3
    for hops, share in shares.items():
        error = np.sqrt(share * (1 - share) * (1 / PUBLISHED["items"] + 1 / NUM_ITEMS))
        assert abs(np.mean(numbers["hops"] == int(hops)) - share) < 3.5 * error


def test_the_order_of_the_two_kinds_tells_nothing(numbers):
    assert abs(numbers["right kind named first"].mean() - 0.5) < 3 * 0.5 / np.sqrt(NUM_ITEMS)


def test_equal_mentions_removes_the_published_shortcut():
    rows = [
        statistics(draw(generator(1, "test", index), equal_mentions=True).model_dump())
        for index in range(200)
    ]
    assert all(row["right kind in fewer facts"] == 0.5 for row in rows)
    later = np.mean([row["right kind stated later"] for row in rows])
    assert abs(later - 0.5) < 3 * 0.5 / np.sqrt(200)


def test_same_options_same_items_other_seed_others():
    small = {"train_size": 30, "test_size": 20}
    first, again, other = (
        {e.key for name in ("train", "test") for e in ProsQA(seed=seed, **small).split(name)}
        for seed in (0, 0, 1)
    )
    assert first == again and len(first) == 50
    assert not first & other


def test_an_item_does_not_depend_on_the_sizes():
    few = ProsQA(train_size=5, test_size=5).split("train")
    assert list(ProsQA(train_size=9, test_size=2).split("train"))[:5] == list(few)


def test_splits_are_disjoint():
    check_disjoint(ProsQA(train_size=200, test_size=100).all_splits())


def test_reads_the_published_file():
    task = ProsQA(train_size=3, test_path=str(FEW))
    examples = task.split("test")
    assert len(examples) == 4
    first = examples[0]
    assert first.text("prompt").endswith("Is Tom a lempus or scrompus?\n")
    assert first.answer == "Tom is a lempus."
    assert first.choices == ("Tom is a lempus.", "Tom is a scrompus.")
    assert first.source == f"{FEW}, item 1"
    assert len(task.split("train")) == 3
    for item, _ in read(FEW):
        graph, (person, *_) = parse(item.question)
        assert item.answer.split()[-1].rstrip(".") in distances(graph, person)


def test_reasoning_ends_with_the_marker():
    (example,) = ProsQA(train_path=str(FEW), reasoning=True).split("train")[:1]
    assert example.text("reasoning") == (
        "Tom is a terpus.\nEvery terpus is a brimpus.\nEvery brimpus is a lempus.\nAnswer: "
    )
    assert example.answer_marker == "Answer: "


def test_a_published_file_in_both_splits_is_found():
    with pytest.raises(InputError, match=r"item 1\) and 'test' \(.*item 1\) share an example"):
        check_disjoint(ProsQA(train_path=str(FEW), test_path=str(FEW)).all_splits())


def test_size_and_path_exclude_each_other():
    with pytest.raises(ValidationError, match="Remove one of them"):
        ProsQA(test_path=str(FEW), test_size=5)


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of prosqa 'tset'; did you mean 'test'"):
        ProsQA().split("tset")


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="found no such file"):
        ProsQA(test_path=str(tmp_path / "none.json")).split("test")


@pytest.mark.parametrize(
    "content, match",
    [
        ("", "expected JSON"),
        ("[]", "at least one ProsQA item, found an empty list"),
        ('{"question": "?"}', "expected a JSON list of at least one ProsQA item, found dict"),
        ("[3]", "item 1: expected a JSON object, found int"),
    ],
)
def test_not_a_list_of_items(tmp_path, content, match):
    file = tmp_path / "items.json"
    file.write_text(content, "utf-8")
    with pytest.raises(InputError, match=match):
        read(file)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"answer": None}, "item 2: field 'answer': Input should be a valid string, found 'None'"),
        ({"edges": [[0, "x"]]}, "item 2: field 'edges.0.1': Input should be a valid integer"),
        ({"edges": [[0]]}, r"item 2: field 'edges.0.1' is missing"),
        ({"steps": []}, "item 2: field 'steps': List should have at least 1 item"),
        ({"target": 99}, "item 2: target is 99, but idx_to_symbol has 22 entries"),
        ({"question": "Is it?"}, "item 2: expected question to end with 'Is Sally a worpus or"),
        ({"answer": "Sally is a fompus."}, "item 2: expected answer 'Sally is a worpus.'"),
    ],
)
def test_a_bad_field_is_named(tmp_path, change, match):
    rows = json.loads(FEW.read_text("utf-8"))
    rows[1] |= change
    file = tmp_path / "items.json"
    file.write_text(json.dumps(rows), "utf-8")
    with pytest.raises(InputError, match=match):
        read(file)


def test_a_missing_field_is_named_with_the_nearest(tmp_path):
    rows = json.loads(FEW.read_text("utf-8"))
    rows[1]["awnser"] = rows[1].pop("answer")
    file = tmp_path / "items.json"
    file.write_text(json.dumps(rows), "utf-8")
    with pytest.raises(
        InputError,
        match=r"item 2: field 'answer' is missing; did you mean 'awnser'.*found: question",
    ):
        read(file)
