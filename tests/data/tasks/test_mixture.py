"""Mixtures: shares, order, names of splits, vocabulary, and what is refused."""

from collections import Counter
from fractions import Fraction

import pytest
from pydantic import TypeAdapter, ValidationError

from ntpctp._core.errors import InputError
from ntpctp._core.options import one_of
from ntpctp.config import experiment_of
from ntpctp.data.cache import encode_task
from ntpctp.data.tasks import TASKS
from tests.conftest import tiny_content

ADAPTER = TypeAdapter(one_of(TASKS))
# Told apart by the length of the prompt: "1+2=", "12+34=", "123+456=".
SIZES = {"one": 30, "two": 40, "three": 50}


def mixture(weights, **changes):
    parts = {
        name: {
            "task": {
                "name": "addition",
                "digits": 1 + index,
                "train_size": SIZES[name],
                "test_size": 10,
            },
            "weight": weights[name],
        }
        for index, name in enumerate(SIZES)
        if name in weights
    }
    return ADAPTER.validate_python({"name": "mixture", "parts": parts, **changes})


def part_of(example):
    return {1: "one", 2: "two", 3: "three"}[len(example.text("prompt").split("+")[0])]


@pytest.mark.parametrize(
    ("weights", "size", "expected"),
    [
        ({"one": 1, "two": 1}, None, {"one": 30, "two": 30}),
        ({"one": 3, "two": 1}, None, {"one": 30, "two": 10}),
        ({"one": 1, "two": 2, "three": 1}, None, {"one": 20, "two": 40, "three": 20}),
        ({"one": 0.5, "two": 0.25, "three": 0.25}, 10, {"one": 5, "two": 3, "three": 2}),
        ({"one": 0, "two": 1}, None, {"two": 40}),
    ],
)
def test_shares(weights, size, expected):
    examples = mixture(weights, train_size=size).split("train")
    assert Counter(map(part_of, examples)) == expected


@pytest.mark.parametrize("size", [1, 2, 7, 19, 52])
def test_rounded_shares_add_up_and_are_off_by_less_than_one(size):
    weights = {"one": 2, "two": 3, "three": 0.7}
    found = Counter(map(part_of, mixture(weights, train_size=size).split("train")))
    total = sum(map(Fraction, weights.values()))
    assert sum(found.values()) == size
    for name, weight in weights.items():
        assert abs(found[name] - size * Fraction(weight) / total) < 1


def test_first_examples_of_each_part_in_their_order_and_spread():
    whole = mixture({"one": 3, "two": 1})
    train = list(whole.split("train"))
    for name, count in {"one": 30, "two": 10}.items():
        own = [example for example in train if part_of(example) == name]
        assert own == list(whole.parts[name].task.split("train")[:count])
    # Every stretch of eight has about two of the rarer part.
    for start in range(0, 32, 8):
        assert 1 <= sum(part_of(e) == "two" for e in train[start : start + 8]) <= 3
    assert train[3:6] == list(whole.split("train")[3:6])


def test_held_out_splits_are_those_of_the_parts():
    whole = mixture({"one": 1, "two": 0})
    assert whole.evaluation_splits == ("one.test", "two.test")
    assert list(whole.split("two.test")) == list(whole.parts["two"].task.split("test"))
    with pytest.raises(InputError, match=r"one.test"):
        whole.split("one.tset")


def test_vocabulary_covers_what_a_part_that_is_only_measured_would_train_on(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"prompt": "a", "answer": "q"}\n' * 2 + '{"prompt": "b", "answer": "c"}\n')
    test = tmp_path / "test.jsonl"
    test.write_text('{"prompt": "d", "answer": "c"}\n')
    own = {"task": {"name": "jsonl", "path": str(path), "test_path": str(test)}, "weight": 0}
    parts = {
        "sum": {"task": {"name": "addition", "digits": 1, "train_size": 20, "test_size": 9}},
        "own": own,
    }
    task = ADAPTER.validate_python({"name": "mixture", "parts": parts})
    assert task.pieces is None  # open text: the user says how to cut it
    encoded = encode_task(task, "characters")
    assert set("abqcd+=") <= set(encoded.tokenizer.get_vocab())
    assert list(encoded.splits) == ["train", "sum.test", "own.test"]
    assert len(encoded.splits["train"].encoded) == 20


def test_survives_the_round_trip_through_a_file():
    whole = mixture({"one": 3, "two": 1})
    assert ADAPTER.validate_python(whole.model_dump(mode="json")) == whole


def test_what_is_refused():
    with pytest.raises(ValidationError, match="all weights are 0"):
        mixture({"one": 0})
    with pytest.raises(InputError, match=r"train_size 61 is more .* \(60\).*'one': 30, 'two': 40"):
        mixture({"one": 1, "two": 1}, train_size=61).split("train")
    with pytest.raises(ValidationError, match=r"parts\.one\.task\.addition\.digts"):
        ADAPTER.validate_python(
            {"name": "mixture", "parts": {"one": {"task": {"name": "addition", "digts": 1}}}}
        )


@pytest.mark.parametrize(
    "parts, match",
    [
        ({"a/b": {"task": "parity"}}, "expected a name of letters, digits"),
        ({"../x": {"task": "parity"}}, "expected a name of letters, digits"),
        ({"a": {"task": "parity", "weight": float("inf")}}, "finite number"),
    ],
)
def test_names_and_weights_that_are_refused(parts, match):
    content = tiny_content(task={"name": "mixture", "parts": parts})
    with pytest.raises(InputError, match=match):
        experiment_of(content, "x")
