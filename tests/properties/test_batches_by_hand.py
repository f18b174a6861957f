"""Batches, packing and counts of any rows, against loops that look at one token at a time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ntpctp.config import Arm
from ntpctp.data.encoded import ROLE_CODES, EncodedExample, EncodedExamples
from ntpctp.data.example import ROLES, Example, Segment
from ntpctp.measures import EncodedSplit
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import CTP, NTP, Supervision, Weighted
from ntpctp.objectives.collator import IGNORE_INDEX, collate
from ntpctp.objectives.dataset import SupervisedExamples, num_supervised
from ntpctp.runner.audit import _arm_counts
from ntpctp.training import TrainingOptions

BOUNDED = settings(max_examples=60, derandomize=True, deadline=None, database=None)
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


@st.composite
def rows_with_weights(draw):
    """Rows of any length, and weights in quarters for each of their tokens, often all of them 0."""
    rows, weights = [], []
    for length in draw(LENGTHS):
        ids = draw(st.lists(st.integers(0, 5), min_size=length, max_size=length))
        codes = draw(st.lists(st.integers(0, len(ROLES) - 1), min_size=length, max_size=length))
        rows.append(EncodedExample(np.array(ids), np.array(codes, np.uint8), 1))
        quarters = st.sampled_from([0.0, 0.0, 0.25, 1.0, 1.0, 2.0])
        weights.append(draw(st.lists(quarters, min_size=length, max_size=length)))
    return rows, weights


def supervisions_of(rows, weights):
    return [
        Supervision(row.input_ids, np.array(of_row, np.float32))
        for row, of_row in zip(rows, weights, strict=True)
    ]


@BOUNDED
@given(rows_with_weights(), st.integers(0, 5), st.sampled_from(["supervised", "sequence"]))
def test_padded_batches(drawn, pad, normalisation):
    rows, weights = drawn
    batch = collate(
        rows, supervisions_of(rows, weights), pad_token_id=pad, normalisation=normalisation
    )
    longest = max(map(len, rows))
    total = supervised = 0.0
    for index, (row, of_row) in enumerate(zip(rows, weights, strict=True)):
        for token in range(longest):
            there = token < len(row)
            weight = of_row[token] if there and token > 0 else 0.0
            total += weight
            supervised += weight != 0
            found = {name: batch[name][index, token].item() for name in ("input_ids", "labels")}
            assert found["input_ids"] == (row.input_ids[token] if there else pad)
            assert found["labels"] == (row.input_ids[token] if weight else IGNORE_INDEX)
            assert batch["attention_mask"][index, token].item() == there
            if "loss_weights" in batch:
                assert batch["loss_weights"][index, token].item() == weight
            else:
                assert weight in (0, 1)
    tokens = sum(map(len, rows))
    assert batch["num_tokens"].item() == tokens
    assert batch["num_supervised"].item() == supervised
    expected = total if normalisation == "supervised" else tokens - len(rows)
    assert batch["normaliser"].item() == expected


@BOUNDED
@given(rows_with_weights(), st.integers(0, 12))
def test_packed_batches(drawn, room):
    rows, weights = drawn
    room += max(map(len, rows))
    batch = collate(rows, supervisions_of(rows, weights), pad_token_id=7, pack_into=room)
    ids, positions, mask = (batch[n] for n in ("input_ids", "position_ids", "attention_mask"))
    assert ids.shape[1] <= room and ids.shape[0] <= len(rows)
    # Every row is found once: a token at position 0 that looks at itself alone begins one.
    found = []
    for sequence in range(ids.shape[0]):
        token = 0
        while token < ids.shape[1] and ids[sequence, token] != 7:
            length = 1
            while (
                token + length < ids.shape[1]
                and positions[sequence, token + length] == length
                and ids[sequence, token + length] != 7
            ):
                length += 1
            place = slice(token, token + length)
            found.append(
                (
                    tuple(ids[sequence, place].tolist()),
                    tuple(batch["labels"][sequence, place].tolist()),
                )
            )
            for t in range(token, token + length):
                sees = (mask[sequence, 0, t] == 0).nonzero().flatten().tolist()
                assert sees == list(range(token, t + 1))
            token += length
    expected = [
        (
            tuple(row.input_ids.tolist()),
            tuple(
                int(i) if t and w else IGNORE_INDEX
                for t, (i, w) in enumerate(zip(row.input_ids, of_row, strict=True))
            ),
        )
        for row, of_row in zip(rows, weights, strict=True)
    ]
    assert sorted(found) == sorted(expected)


@BOUNDED
@given(rows_with_weights(), st.integers(0, 12))
def test_packing_changes_nothing_that_is_counted(drawn, room):
    rows, weights = drawn
    room += max(map(len, rows))
    plain = collate(rows, supervisions_of(rows, weights))
    packed = collate(rows, supervisions_of(rows, weights), pack_into=room)
    for name in ("normaliser", "num_tokens", "num_supervised"):
        assert plain[name].item() == packed[name].item()


@BOUNDED
@given(rows_with_weights(), st.sampled_from(["ntp", "ctp", "both", "weighted"]))
def test_audit_counts(drawn, name):
    rows, _ = drawn
    rows = [row for row in rows if len(row) > 1] or [
        EncodedExample(np.array([1, 2]), np.uint8([0, 2]), 1)
    ]
    objective, weight = {
        "ntp": (NTP(), dict.fromkeys(ROLES, 1.0)),
        "ctp": (CTP(), {"answer": 1.0}),
        "both": (CTP(roles=["answer", "reasoning"]), {"answer": 1.0, "reasoning": 1.0}),
        "weighted": (
            Weighted(prompt=0.0, reasoning=0.5, text=0.0),
            {"reasoning": 0.5, "answer": 1.0, "assistant": 1.0},
        ),
    }[name]
    example = Example((Segment("prompt", "a"), Segment("answer", "b")))
    flat = EncodedExamples.of(rows)
    arm = Arm(
        objective=objective,
        training=TrainingOptions(steps=1, batch_size=1),
        model=ModelOptions(family="gpt2"),
    )
    counts = _arm_counts(EncodedSplit([example] * len(rows), flat), arm)
    expected, total = [], 0.0
    for row in rows:
        weights = [weight.get(ROLES[code], 0.0) for code in row.roles[1:]]
        expected.append(sum(w != 0 for w in weights))
        total += sum(weights)
    pairs = sum(len(row) - 1 for row in rows)
    assert num_supervised(objective, flat).tolist() == expected
    assert counts["supervised_tokens"] == sum(expected)
    assert (counts["min"], counts["max"]) == (min(expected), max(expected))
    assert counts["median"] == sorted(expected)[len(expected) // 2] or len(expected) % 2 == 0
    assert counts["share"] == sum(expected) / pairs
    assert abs(counts["weight_share"] - total / pairs) < 1e-6
    assert counts["rows_without"] == expected.count(0)
    ends = sum(weight.get(ROLES[row.roles[-1]], 0.0) > 0 for row in rows)
    assert abs(counts["end_of_sequence_supervised"] - ends / len(rows)) < 1e-9
    # The audit tells what batches hold.
    batch = SupervisedExamples(flat, objective).batch(range(len(rows)), 0)
    assert batch["num_supervised"].item() == counts["supervised_tokens"]


def test_roles_have_the_codes_that_the_loops_take_them_for():
    assert [ROLES[code] for code in ROLE_CODES.values()] == list(ROLE_CODES)
