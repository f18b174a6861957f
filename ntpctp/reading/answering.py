"""What a model writes behind each prompt, where it is known how the model reads the reference.

Up to the first token that is not the greedy choice, greedy decoding writes the reference itself,
and what it writes there has been seen as well. Only the rest is decoded.
"""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedModel

from ntpctp.models import context_length
from ntpctp.reading.batches import TokenBudget
from ntpctp.reading.decoding import Decoded, decode_greedily
from ntpctp.reading.teacher_forcing import ReadRow
from ntpctp.tokens import Row


def answer_greedily(
    model: PreTrainedModel,
    rows: Sequence[Row],
    read: Sequence[ReadRow],
    limits: Sequence[int],
    eos_token_id: int,
    budget: TokenBudget,
) -> list[Decoded]:
    """Return what ``decode_greedily`` would write behind the prompt of each row.

    Args:
        model: in evaluation mode.
        rows: prompt and reference; decoding takes over at ``answer_start``.
        read: of the same model, at all tokens behind the prompt.
        limits: the most tokens to write, each.
        eos_token_id: ends a row.
        budget: bounds a forward pass.
    """
    context = context_length(model.config) or 2**62
    results: list[Decoded | None] = []
    pending: list[tuple[int, Decoded]] = []  # the rows that go on, and what they begin with
    for row, seen, limit in zip(rows, read, limits, strict=True):
        begun, goes_on = _begun(row, seen, min(limit, context - row.answer_start), eos_token_id)
        if goes_on:
            pending.append((len(results), begun))
        results.append(None if goes_on else begun)
    rests = decode_greedily(
        model,
        [np.append(rows[k].input_ids[: rows[k].answer_start], begun.ids) for k, begun in pending],
        [limits[index] - len(begun.ids) for index, begun in pending],
        eos_token_id,
        budget,
    )
    for (index, begun), rest in zip(pending, rests, strict=True):
        results[index] = Decoded(
            np.concatenate([begun.ids, rest.ids]),
            rest.stopped,
            begun.log_probability + rest.log_probability,
        )
    return [result for result in results if result is not None]


def _begun(row: Row, seen: ReadRow, room: int, eos_token_id: int) -> tuple[Decoded, bool]:
    """Return what is known to be written, and whether that goes on."""
    start = row.answer_start
    wrong = np.flatnonzero(~seen.matches[start:])
    # The reference ends with the end of sequence, so a row that is right throughout has stopped.
    last = int(wrong[0]) if len(wrong) else len(row) - start - 1
    if last >= room:  # the limit cuts the reference itself
        ids = row.input_ids[start : start + room].astype(np.int64)
        return Decoded(ids, False, -float(seen.losses[start : start + room].sum())), False
    token = int(seen.greedy_ids[start + last])
    stopped = token == eos_token_id
    ids = np.append(row.input_ids[start : start + last], [] if stopped else [token])
    loss = seen.losses[start : start + last].sum() + seen.greedy_losses[start + last]
    return Decoded(ids.astype(np.int64), stopped, -float(loss)), not stopped and len(ids) < room
