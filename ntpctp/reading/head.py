"""The language-model head, applied only where something is asked for, in pieces that fit.

Shape letters: M = positions, N = questions about them, V = vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp.loss import MAX_LOGITS, head_of


class Predictions(NamedTuple):
    """What a model predicts behind some positions; all of shape (M,)."""

    losses: Tensor  # -log p(target), nats, float32
    greedy_ids: Tensor  # the most probable token, int64
    greedy_losses: Tensor  # -log p(most probable token), nats, float32


def predictions(model: PreTrainedModel, states: Tensor, targets: Tensor) -> Predictions:
    """Return what ``states``, shape (M, D), predict; ``targets`` are int64 (M,)."""
    head, at_once = head_of(model), _at_once(model)
    parts = []
    for piece, wanted in zip(
        torch.split(states, at_once), torch.split(targets, at_once), strict=True
    ):
        logits = head(piece).float()
        normaliser = logits.logsumexp(-1)
        largest, greedy = logits.max(-1)
        chosen = logits.gather(-1, wanted[:, None])[:, 0]
        parts.append((normaliser - chosen, greedy, normaliser - largest))
    return Predictions(*(torch.cat(column) for column in zip(*parts, strict=True)))


def log_probabilities(
    model: PreTrainedModel, states: Tensor, state_of: Tensor, tokens: Tensor
) -> Tensor:
    """Return log p(token) behind a state for each question: float32, shape (N,), nats.

    Args:
        model: gives the head.
        states: (M, D); the head is applied once to each, however many questions there are.
        state_of: int64 (N,), not falling: which state a question is about.
        tokens: int64 (N,).
    """
    head, at_once = head_of(model), _at_once(model)
    parts = []
    for first in range(0, len(states), at_once):
        logits = head(states[first : first + at_once]).float()
        ends = torch.tensor([first, first + at_once], device=state_of.device)
        start, end = torch.searchsorted(state_of, ends).tolist()
        rows, wanted = state_of[start:end] - first, tokens[start:end]
        parts.append(logits[rows, wanted] - logits.logsumexp(-1)[rows])
    return torch.cat(parts)


def _at_once(model: PreTrainedModel) -> int:
    return max(1, MAX_LOGITS // int(model.config.vocab_size))
