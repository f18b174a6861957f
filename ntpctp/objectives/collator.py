"""Rows and their supervision become a batch.

For any two objectives the batches of the same rows differ in labels and weights alone.

Shape letters: B = sequences of the batch, T = tokens of the longest one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntpctp.data.encoded import EncodedExample
from ntpctp.objectives import Normalisation, Supervision

IGNORE_INDEX = -100  # the label that torch.nn.functional.cross_entropy skips by default

Batch = dict[str, Tensor]
MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids")


def collate(
    rows: Sequence[EncodedExample],
    supervisions: Sequence[Supervision],
    *,
    normalisation: Normalisation = "supervised",
    pad_token_id: int = 0,
    pack_into: int | None = None,
) -> Batch:
    """Pad ``rows`` on the right into one batch, or pack them into sequences.

    Args:
        rows: at least one.
        supervisions: labels and weights of each row.
        normalisation: see ``objectives.objective``.
        pad_token_id: may equal any id; padding is masked by position, never by value.
        pack_into: tokens of a sequence that may hold several rows; None: one row a sequence.

    Returns:
        What the model reads: ``input_ids`` and ``attention_mask``, int64 of shape (B, T). Packed:
        ``position_ids`` (B, T), anew from 0 in each row, and ``attention_mask`` (B, 1, T, T),
        float32, 0 where a token may look and a very negative number elsewhere, so that rows of one
        sequence do not see each other.

        What the loss sees: ``labels``, int64 (B, T), not shifted (the loss does that); the first
        token of a row has none, it has no predecessor. ``loss_weights``, float32 (B, T), where a
        weight is neither 0 nor 1. For objectives that choose by a reference: ``reference_losses``
        float32 (B, T), ``example_index`` int64 (B, T) and ``num_kept`` int64 (rows,).

        Scalars: ``normaliser`` (float64, the Z of this batch), ``num_tokens`` and
        ``num_supervised`` (int64).
    """
    places = _places(list(map(len, rows)), pack_into)
    shape = (
        1 + max(s for s, _ in places),
        max(start + len(row) for (_, start), row in zip(places, rows, strict=True)),
    )
    input_ids = np.full(shape, pad_token_id, np.int64)
    labels = np.full(shape, IGNORE_INDEX, np.int64)
    weights = np.zeros(shape, np.float32)
    position_ids = np.zeros(shape, np.int64)
    example_index = np.full(shape, -1, np.int64)
    reference = np.zeros(shape, np.float32)
    for index, ((sequence, start), row, wanted) in enumerate(
        zip(places, rows, supervisions, strict=True)
    ):
        at = sequence, slice(start, start + len(row))
        input_ids[at] = row.input_ids
        position_ids[at] = np.arange(len(row))
        example_index[at] = index
        weights[at] = wanted.weights
        weights[sequence, start] = 0
        labels[at] = np.where(weights[at] != 0, wanted.labels, IGNORE_INDEX)
        if wanted.reference_losses is not None:
            reference[at] = wanted.reference_losses
    batch: dict[str, NDArray[Any]] = {
        "input_ids": input_ids,
        "attention_mask": (example_index >= 0).astype(np.int64),
        "labels": labels,
    }
    if pack_into is not None:
        batch["position_ids"] = position_ids
        batch["attention_mask"] = _block_mask(example_index)
    if np.any((weights != 0) & (weights != 1)):
        batch["loss_weights"] = weights
    num_supervised, total = int((weights != 0).sum()), float(weights.sum(dtype=np.float64))
    if supervisions[0].reference_losses is not None:
        num_kept = np.array([wanted.num_kept for wanted in supervisions], np.int64)
        batch |= {
            "reference_losses": reference,
            "example_index": example_index,
            "num_kept": num_kept,
        }
        num_supervised, total = int(num_kept.sum()), float(num_kept.sum())
    num_tokens = sum(map(len, rows))
    with_predecessor = float(num_tokens - len(rows))
    return {name: torch.from_numpy(array) for name, array in batch.items()} | {
        "normaliser": torch.tensor(
            total if normalisation == "supervised" else with_predecessor, dtype=torch.float64
        ),
        "num_tokens": torch.tensor(num_tokens),
        "num_supervised": torch.tensor(num_supervised),
    }


def model_inputs(batch: Batch) -> Batch:
    """Return the part of a batch that the model reads."""
    return {name: batch[name] for name in MODEL_INPUTS if name in batch}


def _places(lengths: Sequence[int], pack_into: int | None) -> list[tuple[int, int]]:
    """Return (sequence, first token) of each row; first fit, longest first, when packing."""
    if pack_into is None:
        return [(index, 0) for index in range(len(lengths))]
    places = [(0, 0)] * len(lengths)
    filled: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        fits = (s for s, used in enumerate(filled) if used + length <= pack_into)
        sequence = next(fits, len(filled))
        if sequence == len(filled):
            filled.append(0)
        places[index] = sequence, filled[sequence]
        filled[sequence] += length
    return places


def _block_mask(example_index: np.ndarray) -> np.ndarray:
    """Return the additive mask of packed sequences: float32, shape (B, 1, T, T)."""
    length = example_index.shape[1]
    causal = np.tril(np.ones((length, length), bool))
    # Padding looks at itself alone: a token that may look nowhere would give NaN.
    same = (example_index[:, :, None] == example_index[:, None, :]) & (
        example_index[:, :, None] >= 0
    )
    allowed = (same & causal) | np.eye(length, dtype=bool)
    return np.where(allowed, np.float32(0), np.finfo(np.float32).min)[:, None]
