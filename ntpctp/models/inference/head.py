"""The language-model head, applied only to the states that are needed, in chunks that fit.

Shape letters: M = states, Q = scored tokens, D = width.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp.objectives.loss import MAX_LOGITS, head_of


class Predictions(NamedTuple):
    """What a model predicts from some states; losses are in nats, float32."""

    losses: Tensor  # (Q,): -log p(token) of each scored token
    greedy_ids: Tensor  # (M,), int64: the most probable token
    greedy_losses: Tensor  # (M,): -log of its probability


def predictions(
    model: PreTrainedModel, states: Tensor, state_of: Tensor, tokens: Tensor
) -> Predictions:
    """Return the losses of tokens given states, and the most probable token of each state.

    Args:
        model: gives the head.
        states: (M, D); the head is applied once to each, however many tokens are scored.
        state_of: int64 (Q,): index of the state that predicts each token, in ascending order.
        tokens: int64 (Q,).
    """
    head = head_of(model)
    chunk_size = max(1, MAX_LOGITS // int(model.config.vocab_size))
    losses, greedy_ids, greedy_losses = [], [], []
    for first in range(0, len(states), chunk_size):
        logits = head(states[first : first + chunk_size]).float()
        ends = torch.tensor([first, first + chunk_size], device=state_of.device)
        start, end = torch.searchsorted(state_of, ends).tolist()
        normaliser = logits.logsumexp(-1)
        largest, greedy = logits.max(-1)
        state = state_of[start:end] - first
        losses.append(normaliser[state] - logits[state, tokens[start:end]])
        greedy_ids.append(greedy)
        greedy_losses.append(normaliser - largest)
    return Predictions(torch.cat(losses), torch.cat(greedy_ids), torch.cat(greedy_losses))
