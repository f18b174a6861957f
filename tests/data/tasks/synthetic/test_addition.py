"""Addition against plain arithmetic on the text."""

import re

import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.addition import Addition


def keys(task):
    return [
        example.key for name in ("train", *task.evaluation_splits) for example in task.split(name)
    ]


@pytest.mark.parametrize("digits", [1, 3, 9])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_answer_is_the_sum(digits, reverse):
    task = Addition(digits=digits, train_size=80, test_size=20, reverse=reverse)
    examples = [*task.split("train"), *task.split("test")]
    assert len(examples) == 100
    for example in examples:
        a, b = re.fullmatch(
            rf"(\d{{{digits}}})\+(\d{{{digits}}})=", example.text("prompt")
        ).groups()
        assert len(example.answer) == digits + 1
        assert int(example.answer[:: -1 if reverse else 1]) == int(a) + int(b)


def test_splits_are_disjoint_and_without_copies():
    task = Addition(digits=2, train_size=9000, test_size=1000)  # every pair there is
    check_disjoint(task.all_splits())
    assert len(set(keys(task))) == 10_000


def test_same_options_same_examples_other_seed_others():
    first, again, other = (
        keys(Addition(digits=3, train_size=500, test_size=500, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == again
    # By chance, 1000 of 10^6 pairs shared with another 1000: one on average.
    assert len({*first} & {*other}) < 10


def test_operands_are_uniform():
    prompts = [e.text("prompt") for e in Addition(digits=2, train_size=4000).split("train")]
    for position in (0, 1, 3, 4):
        for digit in "0123456789":
            share = sum(prompt[position] == digit for prompt in prompts) / len(prompts)
            assert abs(share - 0.1) < 4 * (0.09 / 4000) ** 0.5


@pytest.mark.parametrize("square", [[3, 6], [0, 4], [5, 9], [7, 7]])
def test_the_square_is_tested_on_only(square):
    low, high = square
    side = high - low + 1
    task = Addition(digits=1, square=square, train_size=90 - side**2, test_size=min(10, side**2))
    check_disjoint(task.all_splits())

    def operands(split):
        return {tuple(map(int, e.text("prompt")[:-1].split("+"))) for e in task.split(split)}

    def inside(pair):
        return all(low <= operand <= high for operand in pair)

    assert len(task.split("ood_square")) == task.test_size == len(operands("ood_square"))
    assert all(map(inside, operands("ood_square")))
    outside = operands("train") | operands("test")
    assert len(outside) == 90 - side**2 + task.test_size and not any(map(inside, outside))
    assert all(int(e.answer) == eval(e.text("prompt")[:-1]) for e in task.split("ood_square"))


def test_outside_the_square_all_pairs_are_drawn():
    task = Addition(digits=1, square=[3, 6], train_size=80, test_size=4)
    assert len(set(keys(task))) == 80 + 4 + 4


def test_the_square_of_the_paper():
    task = Addition(digits=3, square=[400, 600], train_size=5000)
    for example in task.split("ood_square"):
        a, b = map(int, example.text("prompt")[:-1].split("+"))
        assert 400 <= a <= 600 and 400 <= b <= 600 and int(example.answer) == a + b


@pytest.mark.parametrize(
    "options, match",
    [
        ({"digits": 0}, "greater than or equal to 1"),
        (
            {"digits": 1, "train_size": 90, "test_size": 11},
            "= 101 examples, but 1 digits give only",
        ),
        ({"square": [5]}, r"square: expected \[smallest, largest\] within 0 to 99, found \[5\]"),
        ({"square": [5, 100]}, r"within 0 to 99, found \[5, 100\]"),
        ({"square": [6, 5]}, r"found \[6, 5\]"),
        ({"square": [5, 6]}, "test_size = 500 examples, but the square has only 4 different"),
        ({"square": [1, 98], "test_size": 9}, "give only 396 different pairs outside the square"),
        ({"digts": 2}, "Extra inputs are not permitted"),
        ({"digits": "2"}, "valid integer"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValidationError, match=match):
        Addition(**options)


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of addition 'tests'; did you mean 'test'"):
        Addition().split("tests")
    with pytest.raises(InputError, match="unknown split of addition 'ood_square'"):
        Addition().split("ood_square")
