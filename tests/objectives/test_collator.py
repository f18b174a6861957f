"""Batches against tensors written out by hand."""

import numpy as np
import pytest

from ntpctp.data.tokenize import EncodedExample
from ntpctp.objectives import CTP, NTP, Supervision, no_reference_losses
from ntpctp.objectives.collator import IGNORE_INDEX as X
from ntpctp.objectives.collator import collate

EOS = 9
ROWS = [
    EncodedExample(np.array([1, 2, 3, EOS]), np.array([0, 0, 2, 2], np.uint8), 2),
    EncodedExample(np.array([4, 5, EOS]), np.array([0, 0, 2], np.uint8), 2),
]


@pytest.mark.parametrize(
    "objective, labels",
    [(NTP(), [[X, 2, 3, EOS], [X, 5, EOS, X]]), (CTP(), [[X, X, 3, EOS], [X, X, EOS, X]])],
)
def test_objectives_differ_in_labels_only(objective, labels):
    supervisions = objective.supervise(ROWS, no_reference_losses)
    batch = collate(ROWS, supervisions, pad_token_id=EOS)  # pad == EOS on purpose
    assert batch["labels"].tolist() == labels
    assert batch["input_ids"].tolist() == [[1, 2, 3, EOS], [4, 5, EOS, EOS]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert "loss_weights" not in batch


def weighted(*weights):
    return [
        Supervision(row.input_ids, np.array(w, np.float32))
        for row, w in zip(ROWS, weights, strict=True)
    ]


def test_fractional_weights_travel_beside_the_labels():
    batch = collate(ROWS, weighted([0.5] * 4, [0.5, 0, 0.5]))
    assert batch["loss_weights"].tolist() == [[0, 0.5, 0.5, 0.5], [0, 0, 0.5, 0]]
    assert batch["labels"].tolist() == [[X, 2, 3, EOS], [X, X, EOS, X]]
    assert float(batch["normaliser"]) == 2.0  # 4 weights of one half; the first token has none
    assert (int(batch["num_tokens"]), int(batch["num_supervised"])) == (7, 4)


def test_normaliser_of_the_sequence_counts_all_tokens_with_a_predecessor():
    batch = collate(ROWS, weighted([0, 0, 0, 1], [0, 0, 1]), normalisation="sequence")
    assert float(batch["normaliser"]) == 5.0 == 3 + 2
    assert float(collate(ROWS, weighted([0, 0, 0, 1], [0, 0, 1]))["normaliser"]) == 2.0


def test_packed_rows_stand_in_one_sequence_and_do_not_see_each_other():
    batch = collate(ROWS, weighted([1] * 4, [1] * 3), pad_token_id=7, pack_into=8)
    assert batch["input_ids"].tolist() == [[1, 2, 3, EOS, 4, 5, EOS]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert batch["labels"].tolist() == [[X, 2, 3, EOS, X, 5, EOS]]  # 4 follows another row
    sees = (batch["attention_mask"][0, 0] == 0).int().tolist()
    assert sees == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1, 1],
    ]


def test_packing_fills_sequences_longest_first():
    lengths = [3, 5, 2, 4, 6]
    rows = [EncodedExample(np.arange(n), np.zeros(n, np.uint8), 1) for n in lengths]
    batch = collate(
        rows, [Supervision(r.input_ids, np.ones(len(r), np.float32)) for r in rows], pack_into=8
    )
    filled = (batch["position_ids"] == 0).sum(1)
    assert batch["input_ids"].shape[0] == 3  # 6+2, 5+3, 4
    assert int(batch["num_tokens"]) == sum(lengths)
    assert int(batch["num_supervised"]) == sum(lengths) - len(lengths)
    assert filled.sum() >= len(lengths)
