"""One forward pass over whole examples: the loss and the greedy choice at every position.

Greedy decoding answers with exactly the reference if and only if, at every position of the
reference, the greedy choice given the reference so far is the reference's next token. One pass
therefore judges an answer that would take as many passes as it has tokens to decode.

Shape letters: B = rows of a batch, T = its longest row, V = vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp.loss import MAX_LOGITS, head_of
from ntpctp.tokens import Row


@dataclass(frozen=True, slots=True)
class ReadRow:
    """How a model reads one row; both arrays have shape (T,), entry t belongs to token t.

    Token 0 has no predecessor: its loss is NaN and its match False.
    """

    losses: NDArray[np.float64]  # -log p(x_t | x_<t), nats
    matches: NDArray[np.bool_]  # whether x_t is the greedy choice


def read_rows(
    model: PreTrainedModel,
    rows: Sequence[Row],
    batch_tokens: int,
    perturbed: Callable[[Sequence[int], Tensor], Tensor] | None = None,
) -> list[ReadRow]:
    """Read ``rows`` by teacher forcing.

    Args:
        model: in evaluation mode.
        rows: in any order and of any lengths; the result has their order.
        batch_tokens: bounds a forward pass.
        perturbed: maps (indices of the batch's rows, token embeddings (B, T, D)) to the embeddings
            that the model reads instead.
    """
    results: list[ReadRow | None] = [None] * len(rows)
    for indices in batches_by_length([len(row) for row in rows], batch_tokens):
        ids, mask = pad([rows[index].input_ids for index in indices], model.device)
        losses, matches = _read(
            model, ids, mask, perturbed and (lambda e, i=indices: perturbed(i, e))
        )
        for place, index in enumerate(indices):
            length = len(rows[index])
            results[index] = ReadRow(losses[place, :length], matches[place, :length])
    return [result for result in results if result is not None]


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield indices in batches of similar length, each at most ``batch_tokens`` with its padding.

    Args:
        lengths: tokens of every item.
        batch_tokens: an item that is longer comes alone.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i), reverse=True):
        # The first of a batch is its longest.
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pad(
    sequences: Sequence[NDArray[np.int64]], device: str | torch.device
) -> tuple[Tensor, Tensor]:
    """Pad on the right; return ids and attention mask, int64 of shape (B, T)."""
    shape = len(sequences), max(map(len, sequences))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for place, sequence in enumerate(sequences):
        ids[place, : len(sequence)] = sequence
        mask[place, : len(sequence)] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)


@torch.no_grad()
def _read(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    perturbed: Callable[[Tensor], Tensor] | None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    hook = None
    if perturbed is not None:
        hook = model.get_input_embeddings().register_forward_hook(
            lambda module, inputs, output: perturbed(output)
        )
    try:
        hidden = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
    finally:
        if hook is not None:
            hook.remove()
    read = mask[:, 1:].bool()
    states, targets = hidden[:, :-1][read], ids[:, 1:][read]
    head = head_of(model)
    at_once = max(1, MAX_LOGITS // model.config.vocab_size)
    losses, matches = [], []
    for piece, wanted in zip(
        torch.split(states, at_once), torch.split(targets, at_once), strict=True
    ):
        logits = head(piece).float()
        losses.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none"))
        matches.append(logits.argmax(-1) == wanted)
    all_losses = np.full(ids.shape, np.nan)
    all_matches = np.zeros(ids.shape, bool)
    where = np.pad(read.cpu().numpy(), ((0, 0), (1, 0)))
    all_losses[where] = torch.cat(losses).double().cpu().numpy()
    all_matches[where] = torch.cat(matches).cpu().numpy()
    return all_losses, all_matches
