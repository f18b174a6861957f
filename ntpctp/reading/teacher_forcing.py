"""One forward pass over whole examples: the loss and the greedy choice at every position.

Greedy decoding answers with exactly the reference if and only if, at every position of the
reference, the greedy choice given the reference so far is the reference's next token. One pass
therefore judges an answer that would take as many passes as it has tokens to decode.

Shape letters: B = rows of a batch, T = its longest row.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ntpctp.reading.batches import TokenBudget, pad
from ntpctp.reading.disturbance import Disturbance
from ntpctp.reading.head import predictions
from ntpctp.tokens import Row


@dataclass(frozen=True, slots=True)
class ReadRow:
    """How a model reads one row; all arrays have shape (T,), entry t belongs to token t.

    Where nothing was asked for, and at token 0, which has no predecessor, losses are NaN and the
    greedy id is -1.
    """

    losses: NDArray[np.float64]  # -log p(x_t | x_<t), nats
    greedy_ids: NDArray[np.int64]  # the most probable token in place of x_t
    greedy_losses: NDArray[np.float64]  # -log of its probability, nats
    matches: NDArray[np.bool_]  # whether x_t is the greedy choice


def read_rows(
    model: PreTrainedModel,
    rows: Sequence[Row],
    budget: TokenBudget,
    *,
    answers_only: bool = False,
    disturbance: Disturbance | None = None,
) -> list[ReadRow]:
    """Read ``rows`` by teacher forcing.

    Args:
        model: in evaluation mode.
        rows: in any order and of any lengths; the result has their order.
        budget: bounds a forward pass.
        answers_only: ask for the tokens of answers alone; the head, which is dear where the
            vocabulary is large, is not applied elsewhere.
        disturbance: of what the model reads or computes; item k is ``rows[k]``.
    """
    results: list[ReadRow | None] = [None] * len(rows)

    def read(indices: list[int]) -> None:
        for index, seen in zip(
            indices,
            _read(model, [rows[k] for k in indices], indices, answers_only, disturbance),
            strict=True,
        ):
            results[index] = seen

    budget.run([len(row) for row in rows], read, model)
    return [result for result in results if result is not None]


@torch.no_grad()
def _read(
    model: PreTrainedModel,
    rows: Sequence[Row],
    items: Sequence[int],
    answers_only: bool,
    disturbance: Disturbance | None,
) -> list[ReadRow]:
    ids, mask = pad([row.input_ids for row in rows], model.device)
    positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    with nullcontext() if disturbance is None else disturbance.at_work(model, items, positions):
        hidden = model.base_model(
            input_ids=ids, attention_mask=mask, use_cache=False
        ).last_hidden_state
    asked = np.zeros(ids.shape, bool)
    for place, row in enumerate(rows):
        asked[place, : len(row)] = row.has_role("answer") if answers_only else True
    asked[:, 0] = False
    where = torch.from_numpy(asked[:, 1:]).to(ids.device)
    found = predictions(model, hidden[:, :-1][where], ids[:, 1:][where])
    losses, greedy_losses = np.full(ids.shape, np.nan), np.full(ids.shape, np.nan)
    greedy_ids = np.full(ids.shape, -1)
    losses[asked] = found.losses.double().cpu().numpy()
    greedy_losses[asked] = found.greedy_losses.double().cpu().numpy()
    greedy_ids[asked] = found.greedy_ids.cpu().numpy()
    matches = greedy_ids == ids.cpu().numpy()
    return [
        ReadRow(
            losses[place, : len(row)],
            greedy_ids[place, : len(row)],
            greedy_losses[place, : len(row)],
            matches[place, : len(row)],
        )
        for place, row in enumerate(rows)
    ]
