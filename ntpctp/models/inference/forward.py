"""One forward pass over contexts and their continuations: the probability of each token.

A context and its continuations form one sequence; a mask lets each continuation attend only to the
context and itself, and its positions start after the context, so that the context is computed once.
The last token of a continuation is scored, but not an input.

Shape letters: B = requests of a batch, T = tokens of the longest sequence, Q = scored tokens.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from ntpctp.models.inference.batches import pad
from ntpctp.models.inference.head import predictions
from ntpctp.models.inference.perturbation import Perturbation
from ntpctp.models.inference.shortcuts import only_at

_CONTEXT, _PADDING = -1, -2


@dataclass(frozen=True, slots=True, eq=False)
class ScoringRequest:
    """A context and its possible continuations, whose tokens are scored.

    Attributes:
        context: token ids, int64, shape (at least 1,).
        continuations: token ids of each, int64, at least one token each.
        score_context: whether the tokens of the context are scored, too (except its first one,
            which has no predecessor).
    """

    context: NDArray[np.int64]
    continuations: tuple[NDArray[np.int64], ...]
    score_context: bool = False

    @property
    def num_tokens(self) -> int:
        """Input tokens."""
        return len(self.context) + sum(len(ids) - 1 for ids in self.continuations)

    @property
    def longest_path(self) -> int:
        """Input tokens of the context and its longest continuation."""
        return len(self.context) + max(len(ids) for ids in self.continuations) - 1


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """Losses and greedy predictions of the tokens of a text; all arrays have one entry per token.

    Tokens that were not scored have losses of NaN and the greedy id -1.
    """

    losses: NDArray[np.float64]  # -log p(token | all before it), nats
    greedy_ids: NDArray[np.int64]  # the most probable token at its position
    greedy_losses: NDArray[np.float64]  # -log of its probability, nats

    @classmethod
    def unscored(cls, size: int) -> "TokenScores":
        """Return placeholders for ``size`` tokens that were not scored."""
        return cls(np.full(size, np.nan), np.full(size, -1), np.full(size, np.nan))


@dataclass(frozen=True, slots=True, eq=False)
class ScoringResult:
    """The token scores of a request."""

    context: TokenScores
    continuations: tuple[TokenScores, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBatch:
    """Requests scored in one forward pass.

    Attributes:
        items: indices of the requests.
        results: their scores, in that order.
        mask: int64 (B, T), 0 for padding.
        cache: keys and values of each input token; None if they were not kept.
    """

    items: Sequence[int]
    results: Sequence[ScoringResult]
    mask: Tensor
    cache: DynamicCache | None


@torch.no_grad()
def score_batch(
    model: PreTrainedModel,
    requests: Sequence[ScoringRequest],
    items: Sequence[int],
    position_wise: nn.Module | None,
    perturbation: Perturbation | None,
    cache: DynamicCache | None = None,
) -> ScoredBatch:
    """Score one batch.

    Args:
        model: in evaluation mode.
        requests: the requests of the batch.
        items: their indices, for the perturbation.
        position_wise: a module that is run only at positions whose state is needed; or None.
        perturbation: of the forward pass; or None.
        cache: gets the keys and values; or None.
    """
    ids, mask = pad([_sequence(request) for request in requests], model.device)
    branches, positions = _positions(requests, ids.shape)
    position_ids = torch.from_numpy(positions).to(model.device)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if any(len(request.continuations) > 1 for request in requests):
        inputs["attention_mask"] = _mask(branches, model.dtype).to(model.device)
        inputs["position_ids"] = position_ids
    predecessors, tokens, sizes = _scored_tokens(requests, ids.shape[1])
    states, state_of = np.unique(predecessors, return_inverse=True)
    at = torch.from_numpy(states).to(model.device)
    with ExitStack() as hooks:
        if perturbation is not None:
            hooks.enter_context(perturbation.applied(model, items, position_ids))
        if position_wise is not None:
            hooks.enter_context(only_at(position_wise, at))
        if cache is not None:
            inputs |= {"past_key_values": cache}
        hidden = model.base_model(**inputs, use_cache=cache is not None).last_hidden_state
    order = np.argsort(state_of, kind="stable")
    predicted = predictions(
        model,
        hidden.flatten(0, 1)[at],
        torch.from_numpy(state_of[order]).to(model.device),
        torch.from_numpy(tokens[order]).to(model.device),
    )
    losses = np.empty(len(tokens))
    losses[order] = predicted.losses.double().cpu().numpy()
    greedy_ids = predicted.greedy_ids.cpu().numpy()[state_of]
    greedy_losses = predicted.greedy_losses.double().cpu().numpy()[state_of]
    bounds = np.cumsum([0, *sizes])
    pieces = iter(
        TokenScores(losses[a:b], greedy_ids[a:b], greedy_losses[a:b]) for a, b in pairwise(bounds)
    )
    results = [
        ScoringResult(
            _after_unscored(next(pieces))
            if request.score_context
            else TokenScores.unscored(len(request.context)),
            tuple(next(pieces) for _ in request.continuations),
        )
        for request in requests
    ]
    return ScoredBatch(items, results, mask, cache)


def _sequence(request: ScoringRequest) -> NDArray[np.int64]:
    return np.concatenate([request.context, *(ids[:-1] for ids in request.continuations)])


def _positions(
    requests: Sequence[ScoringRequest], shape: torch.Size
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the continuation of each token, and its position in its own request: (B, T) each."""
    branches = np.full(shape, _PADDING)
    positions = np.zeros(shape, np.int64)
    for row, request in enumerate(requests):
        start = len(request.context)
        branches[row, :start] = _CONTEXT
        positions[row, :start] = np.arange(start)
        for number, ids in enumerate(request.continuations):
            end = start + len(ids) - 1
            branches[row, start:end] = number
            positions[row, start:end] = len(request.context) + np.arange(end - start)
            start = end
    return branches, positions


def _mask(branches: NDArray[np.int64], dtype: torch.dtype) -> Tensor:
    """Return 0 where a token may attend, the dtype's smallest number elsewhere: (B, 1, T, T)."""
    branch = torch.from_numpy(branches)
    query, key = branch[:, :, None], branch[:, None, :]
    earlier = torch.ones(branch.shape[1], branch.shape[1], dtype=torch.bool).tril()
    visible = earlier & ((key == _CONTEXT) | (key == query))
    mask = torch.zeros(visible.shape, dtype=dtype)
    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[:, None]


def _scored_tokens(
    requests: Sequence[ScoringRequest], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Return all scored tokens, in the order of the requests and their pieces.

    Returns:
        The index of each token's predecessor in the flattened batch, int64 (Q,); the tokens, int64
        (Q,); and their number in each piece: scored contexts (without their first token), and
        continuations.
    """
    predecessors: list[NDArray[np.int64]] = []
    tokens: list[NDArray[np.int64]] = []
    for row, request in enumerate(requests):
        size = len(request.context)
        first = row * width
        if request.score_context:
            predecessors.append(first + np.arange(size - 1))
            tokens.append(request.context[1:])
        start = size
        for ids in request.continuations:
            # The context's last state predicts the first token of the continuation.
            before = first + np.arange(start - 1, start - 1 + len(ids))
            before[0] = first + size - 1
            predecessors.append(before)
            tokens.append(ids)
            start += len(ids) - 1
    return np.concatenate(predecessors), np.concatenate(tokens), [len(piece) for piece in tokens]


def _after_unscored(scores: TokenScores) -> TokenScores:
    """Prepend the first token of a context, which has no predecessor and no score."""
    first = TokenScores.unscored(1)
    return TokenScores(
        np.concatenate([first.losses, scores.losses]),
        np.concatenate([first.greedy_ids, scores.greedy_ids]),
        np.concatenate([first.greedy_losses, scores.greedy_losses]),
    )
