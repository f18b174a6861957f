"""Sparse parity against a recount of the bits, found from the examples alone."""

from itertools import combinations

import numpy as np
import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.synthetic.parity import Parity


def table(task):
    examples = [*task.split("train"), *task.split("test")]
    bits = np.array([[int(bit) for bit in e.text("prompt").removesuffix("=")] for e in examples])
    return bits, np.array([int(e.answer) for e in examples])


def test_parity_of_all_bits():
    bits, answers = table(Parity())
    assert bits.shape == (1024, 10) and len({tuple(row) for row in bits}) == 1024
    assert (bits.sum(axis=1) % 2 == answers).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exactly_one_set_of_bits_explains_the_answers(seed):
    task = Parity(bits=8, relevant=3, seed=seed)
    bits, answers = table(task)
    explaining = [
        chosen
        for chosen in combinations(range(8), 3)
        if (bits[:, chosen].sum(axis=1) % 2 == answers).all()
    ]
    assert explaining == [task.relevant_bits]


def test_labels_are_balanced_and_no_single_bit_tells():
    bits, answers = table(Parity(bits=10, relevant=3))
    assert answers.mean() == 0.5
    assert all((bits[:, k] == answers).mean() == 0.5 for k in range(10))


@pytest.mark.parametrize("fraction, number", [(0.2, 205), (0.5, 512), (0.8, 819)])
def test_train_fraction_and_disjoint_splits(fraction, number):
    task = Parity(train_fraction=fraction)
    assert len(task.split("train")) == number and len(task.split("test")) == 1024 - number
    check_disjoint(task.all_splits())


def test_same_seed_same_inputs_other_seed_others():
    first, again, other = ([e.key for e in Parity(seed=seed).split("train")] for seed in (0, 0, 1))
    assert first == again and first != other
    assert len({Parity(bits=12, relevant=4, seed=seed).relevant_bits for seed in range(5)}) > 1


@pytest.mark.parametrize(
    "options, match",
    [
        ({"relevant": 11}, "relevant = 11, but there are only 10 bits"),
        ({"train_fraction": 0.0001}, "of 1024 inputs leaves none for training"),
        ({"train_fraction": 0.9999}, "of 1024 inputs leaves none for testing"),
    ],
)
def test_options_are_checked(options, match):
    with pytest.raises(ValidationError, match=match):
        Parity(**options)


def test_unknown_split():
    with pytest.raises(InputError, match="unknown split of parity 'ood'"):
        Parity().split("ood")
