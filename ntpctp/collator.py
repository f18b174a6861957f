"""Rows and their loss weights become a batch.

For any two objectives the batches of the same rows differ in ``labels`` and ``loss_weights`` alone.

Shape letters: B = rows of the batch, T = tokens of its longest row.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ntpctp.errors import InputError
from ntpctp.objectives import Objective
from ntpctp.tokens import Row

IGNORE_INDEX = -100  # the label that torch.nn.functional.cross_entropy skips by default


def collate(rows: Sequence[Row], objective: Objective, pad_token_id: int = 0) -> dict[str, Tensor]:
    """Pad ``rows`` on the right into one batch.

    Args:
        rows: at least one.
        objective: gives the weights.
        pad_token_id: may equal any id; padding is masked by position, never by value.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels``, int64 of shape (B, T). Labels are not
        shifted (the loss does that), so ``labels[:, 0]`` never reaches it. Where a weight is
        neither 0 nor 1 there is also ``loss_weights``, float32 of shape (B, T).

    Raises:
        InputError: if a row has no supervised token behind its first.
    """
    shape = len(rows), max(map(len, rows))
    input_ids = np.full(shape, pad_token_id, np.int64)
    attention_mask = np.zeros(shape, np.int64)
    weights = np.zeros(shape, np.float32)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = row.input_ids
        attention_mask[index, : len(row)] = 1
        weights[index, : len(row)] = objective.weights(row)
    empty = np.flatnonzero(~weights[:, 1:].any(axis=1))
    if len(empty):
        raise InputError(
            f"objective {objective.name!r} supervises no token of row {empty[0]} of a batch "
            f"(ids {rows[empty[0]].input_ids[:20].tolist()}); remove the example or choose an "
            "objective that covers it"
        )
    batch = {
        "input_ids": torch.from_numpy(input_ids),
        "attention_mask": torch.from_numpy(attention_mask),
        "labels": torch.from_numpy(np.where(weights != 0, input_ids, IGNORE_INDEX)),
    }
    if np.any((weights != 0) & (weights != 1)):
        batch["loss_weights"] = torch.from_numpy(weights)
    return batch
