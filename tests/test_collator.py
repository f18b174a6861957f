"""Batches against tensors written out by hand."""

import numpy as np
import pytest

from ntpctp.collator import IGNORE_INDEX as X
from ntpctp.collator import collate
from ntpctp.errors import InputError
from ntpctp.objectives import CTP, NTP, Objective
from ntpctp.tokens import Row

EOS = 9
ROWS = [
    Row(np.array([1, 2, 3, EOS]), np.array([0, 0, 2, 2], np.uint8), 2),
    Row(np.array([4, 5, EOS]), np.array([0, 0, 2], np.uint8), 2),
]


@pytest.mark.parametrize(
    "objective, labels",
    [(NTP(), [[1, 2, 3, EOS], [4, 5, EOS, X]]), (CTP(), [[X, X, 3, EOS], [X, X, EOS, X]])],
)
def test_objectives_differ_in_labels_only(objective, labels):
    batch = collate(ROWS, objective, pad_token_id=EOS)  # pad == EOS on purpose
    assert batch["labels"].tolist() == labels
    assert batch["input_ids"].tolist() == [[1, 2, 3, EOS], [4, 5, EOS, EOS]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert "loss_weights" not in batch


class Half(Objective):
    name: str = "half"

    def weights(self, row):
        return np.full(len(row), 0.5, np.float32) * (row.input_ids != 5)


def test_fractional_weights_travel_beside_the_labels():
    batch = collate(ROWS, Half(), pad_token_id=0)
    assert batch["loss_weights"].tolist() == [[0.5] * 4, [0.5, 0, 0.5, 0]]
    assert batch["labels"].tolist() == [[1, 2, 3, EOS], [4, X, EOS, X]]


class FirstOnly(Objective):
    name: str = "first"

    def weights(self, row):
        return (np.arange(len(row)) == 0).astype(np.float32)


def test_row_that_supervises_nothing_is_an_error():
    with pytest.raises(InputError, match="'first' supervises no token of row 0"):
        collate(ROWS, FirstOnly())
