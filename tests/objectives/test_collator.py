"""Batches against tensors written out by hand."""

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.data.encoded import EncodedExample
from ntpctp.data.tasks import TASKS
from ntpctp.data.tokenize import closed_tokenizer, encode
from ntpctp.objectives import CTP, NTP, Partial, Supervision, Weighted, no_reference_losses
from ntpctp.objectives.collator import IGNORE_INDEX as X
from ntpctp.objectives.collator import ObjectiveCollator, collate, encoded_example

EOS = 9
EXAMPLES = [
    EncodedExample(np.array([1, 2, 3, EOS]), np.array([0, 0, 2, 2], np.uint8), 2),
    EncodedExample(np.array([4, 5, EOS]), np.array([0, 0, 2], np.uint8), 2),
]


@pytest.mark.parametrize(
    "objective, labels",
    [(NTP(), [[X, 2, 3, EOS], [X, 5, EOS, X]]), (CTP(), [[X, X, 3, EOS], [X, X, EOS, X]])],
)
def test_objectives_differ_in_labels_only(objective, labels):
    supervisions = objective.supervise(EXAMPLES, no_reference_losses)
    batch = collate(EXAMPLES, supervisions, pad_token_id=EOS)  # pad == EOS on purpose
    assert batch["labels"].tolist() == labels
    assert batch["input_ids"].tolist() == [[1, 2, 3, EOS], [4, 5, EOS, EOS]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert "loss_weights" not in batch


def weighted(*weights):
    return [
        Supervision(row.input_ids, np.array(w, np.float32))
        for row, w in zip(EXAMPLES, weights, strict=True)
    ]


def test_fractional_weights_travel_beside_the_labels():
    batch = collate(EXAMPLES, weighted([0.5] * 4, [0.5, 0, 0.5]))
    assert batch["loss_weights"].tolist() == [[0, 0.5, 0.5, 0.5], [0, 0, 0.5, 0]]
    assert batch["labels"].tolist() == [[X, 2, 3, EOS], [X, X, EOS, X]]
    assert float(batch["normaliser"]) == 2.0  # 4 weights of one half; the first token has none
    assert (int(batch["num_tokens"]), int(batch["num_supervised"])) == (7, 4)


def test_normaliser_of_the_sequence_counts_all_tokens_with_a_predecessor():
    batch = collate(EXAMPLES, weighted([0, 0, 0, 1], [0, 0, 1]), normalisation="sequence")
    assert float(batch["normaliser"]) == 5.0 == 3 + 2
    assert float(collate(EXAMPLES, weighted([0, 0, 0, 1], [0, 0, 1]))["normaliser"]) == 2.0


def test_packed_examples_stand_in_one_sequence_and_do_not_see_each_other():
    batch = collate(EXAMPLES, weighted([1] * 4, [1] * 3), pad_token_id=7, pack_into=8)
    assert batch["input_ids"].tolist() == [[1, 2, 3, EOS, 4, 5, EOS]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert batch["labels"].tolist() == [[X, 2, 3, EOS, X, 5, EOS]]  # 4 follows another example
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


def dataset_and_examples():
    """The test split of a task as a ``datasets.Dataset`` with tokens, and encoded directly."""
    task = TASKS["addition"](test_size=8)
    texts = [s.text for split in task.all_splits().values() for e in split for s in e.segments]
    tokenizer = closed_tokenizer(texts, "characters")
    return task.to_datasets(tokenizer)["test"], encode(task.split("test"), tokenizer)


@pytest.mark.parametrize("pack_into", [None, 32])
@pytest.mark.parametrize(
    "objective", [NTP(), CTP(), CTP(normalisation="sequence"), Weighted(prompt=0.25)]
)
def test_rows_of_a_dataset_give_the_batch_of_encoded_examples(objective, pack_into):
    dataset, examples = dataset_and_examples()
    assert len(dataset) == len(examples) == 8
    expected = collate(
        examples,
        objective.supervise(examples, no_reference_losses),
        normalisation=objective.normalisation,
        pad_token_id=EOS,
        pack_into=pack_into,
    )
    collator = ObjectiveCollator(objective, EOS, pack_into)
    (batch,) = torch.utils.data.DataLoader(dataset, batch_size=8, collate_fn=collator)
    for found in (batch, collator(examples)):
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


def test_rows_of_a_dataset_become_encoded_examples():
    dataset, examples = dataset_and_examples()
    for row, example in zip(dataset, examples, strict=True):
        found = encoded_example(row)
        assert found.input_ids.tolist() == example.input_ids.tolist()
        assert found.roles.tolist() == example.roles.tolist()
        assert (found.answer_start, found.text) == (example.answer_start, example.text)


def test_rows_and_objectives_that_a_collator_refuses():
    with pytest.raises(InputError, match="'partial': its labels do not follow from one example"):
        ObjectiveCollator(Partial(keep=0.5))
    with pytest.raises(InputError, match="expected the column 'roles', found input_ids, labels"):
        encoded_example({"input_ids": [1, 2], "labels": [1, 2]})
    with pytest.raises(InputError, match="expected one role per token, found 1 for 2 tokens"):
        encoded_example({"input_ids": [1, 2], "roles": ["prompt"]})
    with pytest.raises(InputError, match="role 'anser'; did you mean 'answer'"):
        encoded_example({"input_ids": [1], "roles": ["anser"]})
