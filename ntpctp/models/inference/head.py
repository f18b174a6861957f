"""The language-model head, applied only where something is asked for, in pieces that fit.

Shape letters: M = positions, Q = questions about them, V = vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp.objectives.loss import MAX_LOGITS, head_of


class Predictions(NamedTuple):
    """What a model predicts behind some positions; losses are nats, float32."""

    losses: Tensor  # (Q,): -log p(token) of each question
    greedy_ids: Tensor  # (M,), int64: the most probable token
    greedy_losses: Tensor  # (M,): -log of its probability


def predictions(
    model: PreTrainedModel, states: Tensor, state_of: Tensor, tokens: Tensor
) -> Predictions:
    """Return how probable tokens are behind states, and which is the most probable there.

    Args:
        model: gives the head.
        states: (M, D); the head is applied once to each, however many questions there are.
        state_of: int64 (Q,): which state a question is about, not falling.
        tokens: int64 (Q,).
    """
    head = head_of(model)
    at_once = max(1, MAX_LOGITS // int(model.config.vocab_size))
    losses, greedy_ids, greedy_losses = [], [], []
    for first in range(0, len(states), at_once):
        logits = head(states[first : first + at_once]).float()
        ends = torch.tensor([first, first + at_once], device=state_of.device)
        start, end = torch.searchsorted(state_of, ends).tolist()
        normaliser = logits.logsumexp(-1)
        largest, greedy = logits.max(-1)
        rows = state_of[start:end] - first
        losses.append(normaliser[rows] - logits[rows, tokens[start:end]])
        greedy_ids.append(greedy)
        greedy_losses.append(normaliser - largest)
    return Predictions(torch.cat(losses), torch.cat(greedy_ids), torch.cat(greedy_losses))
