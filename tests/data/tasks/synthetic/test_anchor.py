"""Composite anchor functions against plain arithmetic on the text."""

from collections import Counter

import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.anchor import Anchor

SHIFTS = {1: 5, 2: 1, 3: -2, 4: -8}
MEMORY = {
    "memory_anchors": 10,
    "shifts": list(range(11, 21)),
    "exceptions": {},
    "first_key": 21,
    "last_key": 120,
    "held_out": [[11, 13], [13, 11]],
}


def parse(example, highest_anchor=4):
    """Key, position of the key, anchors; everything else must be noise."""
    tokens = [int(token) for token in example.text("prompt").split()]
    places = [k for k, token in enumerate(tokens) if token <= highest_anchor]
    assert places == list(range(places[0], places[0] + len(places)))
    return tokens[places[0] - 1], places[0] - 1, tuple(tokens[k] for k in places), tokens


@pytest.mark.parametrize("hold_out, modulus", [("paper", 7), ("code", 9)])
def test_answers_and_hold_out_of_the_default(hold_out, modulus):
    task = Anchor(hold_out=hold_out, train_size=3000, test_size=1000)
    for split in ("train", "test"):
        for example in task.split(split):
            key, position, anchors, tokens = parse(example)
            shift = -6 if anchors == (3, 4) else SHIFTS[anchors[0]] + SHIFTS[anchors[1]]
            assert example.answer == str(key + shift)
            assert anchors != (4, 3) and not example.references
            assert (key % modulus == position) == (split == "test")
            assert len(tokens) == 9 and 0 <= position <= 6 and 20 <= key <= 99
            assert all(20 <= token <= 99 for token in tokens if token not in anchors)


def test_solutions_of_the_held_out_pair():
    examples = Anchor(test_size=200).split("held_out")
    for example in examples:
        key, _, anchors, _ = parse(example)
        assert anchors == (4, 3)
        assert example.answer == str(key - 10)
        assert example.references == (("inferential", str(key - 10)), ("symmetric", str(key - 6)))
    # Keys stand everywhere: neither pair nor place was trained on.
    assert len({parse(example)[1] for example in examples}) == 7


def test_without_a_taught_mirror_there_is_no_symmetric_solution():
    task = Anchor(exceptions={}, held_out=[[3, 4], [4, 3]], test_size=100)
    for example in task.split("held_out"):
        key, _, anchors, _ = parse(example)
        assert anchors in ((3, 4), (4, 3))
        assert example.answer == str(key - 10) and not example.references


def test_combinations_are_equally_frequent():
    counts = Counter(parse(example)[2] for example in Anchor(train_size=1500).split("train"))
    assert len(counts) == 15 and set(counts.values()) == {100}


def test_memory_and_reasoning_anchors():
    task = Anchor(**MEMORY, train_size=8000, test_size=500)
    assert task.evaluation_splits == ("test", "held_out", "memory")
    taught = {}
    sorts = Counter()
    for example in task.split("train"):
        key, _, anchors, _ = parse(example, 20)
        assert anchors not in ((11, 13), (13, 11))
        if anchors[0] > 10:
            assert example.answer == str(key + sum(anchors)) and anchors[1] > 10
        else:
            assert anchors[1] <= 10 and 21 <= int(example.answer) <= 120
            assert taught.setdefault((key, anchors), example.answer) == example.answer
        sorts[anchors[0] > 10] += 1
    assert abs(sorts[True] / 8000 - 98 / 198) < 0.01
    # The answers are as good as independent of the key: no shift is right more often than chance.
    shifts = Counter((int(answer) - key) for (key, _), answer in taught.items())
    assert len(taught) > 2000 and max(shifts.values()) < 0.03 * len(taught)
    asked = [(*parse(example, 20)[::2][:2], example.answer) for example in task.split("memory")]
    known = [(key, anchors, answer) for key, anchors, answer in asked if (key, anchors) in taught]
    assert len(known) > 50
    assert all(taught[key, anchors] == answer for key, anchors, answer in known)
    for example in task.split("held_out"):
        key, _, anchors, _ = parse(example, 20)
        assert sorted(anchors) == [11, 13] and example.answer == str(key + 24)


@pytest.mark.parametrize("num_anchors", [1, 3])
def test_other_numbers_of_anchors(num_anchors):
    task = Anchor(
        num_anchors=num_anchors,
        exceptions={},
        held_out=[],
        first_key=30,
        train_size=500,
        test_size=100,
    )
    for split in ("train", "test"):
        for example in task.split(split):
            key, position, anchors, _ = parse(example)
            assert len(anchors) == num_anchors
            assert example.answer == str(key + sum(SHIFTS[a] for a in anchors))
            assert (key % (9 - num_anchors) == position) == (split == "test")


@pytest.mark.parametrize("options", [{}, {"hold_out": "code"}, {"hold_out": "prompts"}, MEMORY])
def test_splits_are_disjoint(options):
    check_disjoint(Anchor(train_size=3000, test_size=500, **options).all_splits())


def test_hold_out_by_prompt_in_a_small_world():
    task = Anchor(hold_out="prompts", length=3, train_size=3000, test_size=300)
    check_disjoint(task.all_splits())
    assert {parse(e)[0] for e in task.split("test")} & {parse(e)[0] for e in task.split("train")}


def test_same_options_same_examples_other_seed_others():
    first, again, other = (
        [e.key for e in Anchor(train_size=500, seed=seed).split("train")] for seed in (0, 0, 1)
    )
    assert first == again and len(set(first) & set(other)) == 0


@pytest.mark.parametrize(
    "options, match",
    [
        ({"length": 3, "num_anchors": 3}, "length = 3, but a key and 3 anchors need at least 4"),
        ({"first_key": 4}, "expected anchors 1 to 4 < first_key < last_key"),
        ({"last_key": 20}, "so that no token means two things"),
        ({"held_out": [[5, 1]]}, r"held_out: \[5, 1\] is not a combination of 2 reasoning anchors"),
        ({"exceptions": {"a b": 1}}, r"exceptions: \[\] is not a combination of 2 reasoning"),
        ({"held_out": [[3, 4]]}, r"exceptions: \[3, 4\] is in held_out"),
        (
            {"shifts": [1], "held_out": [[1, 1]], "exceptions": {}},
            "held_out leaves no combination of reasoning anchors",
        ),
        ({"last_key": 27}, "expected at least length = 9 keys"),
        ({"first_key": 10}, "the smallest answer would be -6. Raise first_key by at least 6"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValidationError, match=match):
        Anchor(**options)


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of anchor 'memory'"):
        Anchor().split("memory")


def test_too_few_prompts():
    task = Anchor(
        hold_out="prompts", length=3, first_key=20, last_key=22, held_out=[], test_size=100
    )
    with pytest.raises(
        InputError, match=r"so few different prompts .* for split 'test'\. Raise leng"
    ):
        task.split("test")
