"""Modular arithmetic against brute force."""

import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.modular import Modular


def table(task):
    """{(x, y): answer} over both splits, as read from the text."""
    read = {}
    for split in ("train", "test"):
        for example in task.split(split):
            x, sign, y, equals = example.text("prompt").split()
            assert equals == "=" and (sign == task.operation or sign == "o")
            assert (int(x), int(y)) not in read
            read[int(x), int(y)] = int(example.answer)
    return read


@pytest.mark.parametrize(
    "operation, value",
    [
        ("+", lambda x, y: x + y),
        ("-", lambda x, y: x - y),
        ("*", lambda x, y: x * y),
        ("x^2+y^2", lambda x, y: x**2 + y**2),
        ("x^2+xy+y^2", lambda x, y: x**2 + x * y + y**2),
        ("x^2+xy+y^2+x", lambda x, y: x**2 + x * y + y**2 + x),
        ("x^3+xy", lambda x, y: x**3 + x * y),
        ("x^3+xy^2+y", lambda x, y: x**3 + x * y**2 + y),
    ],
)
@pytest.mark.parametrize("modulus", [12, 31])
def test_the_whole_table(operation, value, modulus):
    read = table(Modular(operation=operation, modulus=modulus))
    assert read == {(x, y): value(x, y) % modulus for x in range(modulus) for y in range(modulus)}


def test_division_undoes_multiplication():
    read = table(Modular(operation="/", modulus=31))
    assert set(read) == {(x, y) for x in range(31) for y in range(1, 31)}
    assert all((answer * y - x) % 31 == 0 and 0 <= answer < 31 for (x, y), answer in read.items())


@pytest.mark.parametrize("fraction, number", [(0.5, 4704), (0.3, 2823), (0.001, 9)])
def test_train_fraction(fraction, number):
    task = Modular(train_fraction=fraction)
    assert len(task.split("train")) == number and len(task.split("test")) == 97**2 - number
    check_disjoint(task.all_splits())


def test_same_seed_same_pairs_other_seed_others():
    first, again, other = (
        {e.key for e in Modular(train_fraction=0.3, seed=seed).split("train")} for seed in (0, 0, 1)
    )
    assert first == again
    assert abs(len(first & other) / len(first) - 0.3) < 0.05


@pytest.mark.parametrize(
    "options, match",
    [
        (
            {"operation": "/", "modulus": 91},
            "division needs a prime modulus, but 91 is divisible by 7",
        ),
        ({"modulus": 3, "train_fraction": 0.01}, "of 9 pairs leaves none for training"),
        ({"modulus": 3, "train_fraction": 0.99}, "of 9 pairs leaves none for testing"),
        ({"operation": "^"}, "Input should be '\\+'"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValidationError, match=match):
        Modular(**options)


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of modular 'valid'"):
        Modular().split("valid")
