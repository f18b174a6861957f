"""One forward pass over contexts and what may follow them: how probable each token is.

A context and its continuations are one sequence; a mask lets each continuation see the context and
itself alone, and its positions start behind the context, so that the context is read once. The last
token of a continuation is asked for, never read.

Shape letters: B = texts of a batch, T = tokens of the longest sequence, Q = tokens asked for.
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
    """A context and what may follow it.

    Attributes:
        context: token ids, int64, shape (at least 1,).
        continuations: token ids of each, int64, at least one token each.
        whole: whether the tokens of the context are asked for too (but its first one, which has no
            predecessor).
    """

    context: NDArray[np.int64]
    continuations: tuple[NDArray[np.int64], ...]
    whole: bool = False

    @property
    def num_tokens(self) -> int:
        """Tokens that are read."""
        return len(self.context) + sum(len(ids) - 1 for ids in self.continuations)

    @property
    def longest_path(self) -> int:
        """Tokens that are read of the context and one continuation."""
        return len(self.context) + max(len(ids) for ids in self.continuations) - 1


@dataclass(frozen=True, slots=True, eq=False)
class TokenScores:
    """How a model reads a piece of text; all arrays have one entry a token.

    What was not asked for has losses of NaN and the greedy id -1.
    """

    losses: NDArray[np.float64]  # -log p(token | all before it), nats
    greedy_ids: NDArray[np.int64]  # the most probable token in its place
    greedy_losses: NDArray[np.float64]  # -log of its probability, nats

    @classmethod
    def nothing(cls, size: int) -> "TokenScores":
        """Return what is known of ``size`` tokens that were not asked for."""
        return cls(np.full(size, np.nan), np.full(size, -1), np.full(size, np.nan))


@dataclass(frozen=True, slots=True, eq=False)
class ScoringResult:
    """A text as a model reads it."""

    context: TokenScores
    continuations: tuple[TokenScores, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBatch:
    """Some texts that were read together.

    Attributes:
        items: their numbers.
        found: how they were read, in that order.
        mask: int64 (B, T), 0 for padding.
        cache: keys and values of each token that was read; None where they were not kept.
    """

    items: Sequence[int]
    found: Sequence[ScoringResult]
    mask: Tensor
    cache: DynamicCache | None


@torch.no_grad()
def score_batch(
    model: PreTrainedModel,
    texts: Sequence[ScoringRequest],
    items: Sequence[int],
    part: nn.Module | None,
    perturbation: Perturbation | None,
    cache: DynamicCache | None = None,
) -> ScoredBatch:
    """Read one batch; ``part`` is run only where something is asked for, ``cache`` is filled."""
    ids, mask = pad([_sequence(text) for text in texts], model.device)
    branches, positions = _places(texts, ids.shape)
    where = torch.from_numpy(positions).to(model.device)
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if any(len(text.continuations) > 1 for text in texts):
        inputs["attention_mask"] = _mask(branches, model.dtype).to(model.device)
        inputs["position_ids"] = where
    places, tokens, sizes = _questions(texts, ids.shape[1])
    states, state_of = np.unique(places, return_inverse=True)
    at = torch.from_numpy(states).to(model.device)
    with ExitStack() as changes:
        if perturbation is not None:
            changes.enter_context(perturbation.applied(model, items, where))
        if part is not None:
            changes.enter_context(only_at(part, at))
        if cache is not None:
            inputs |= {"past_key_values": cache}
        hidden = model.base_model(**inputs, use_cache=cache is not None).last_hidden_state
    order = np.argsort(state_of, kind="stable")
    found = predictions(
        model,
        hidden.flatten(0, 1)[at],
        torch.from_numpy(state_of[order]).to(model.device),
        torch.from_numpy(tokens[order]).to(model.device),
    )
    losses = np.empty(len(tokens))
    losses[order] = found.losses.double().cpu().numpy()
    greedy_ids = found.greedy_ids.cpu().numpy()[state_of]
    greedy_losses = found.greedy_losses.double().cpu().numpy()[state_of]
    bounds = np.cumsum([0, *sizes])
    pieces = iter(
        TokenScores(losses[a:b], greedy_ids[a:b], greedy_losses[a:b]) for a, b in pairwise(bounds)
    )
    read = [
        ScoringResult(
            _behind_the_first(next(pieces))
            if text.whole
            else TokenScores.nothing(len(text.context)),
            tuple(next(pieces) for _ in text.continuations),
        )
        for text in texts
    ]
    return ScoredBatch(items, read, mask, cache)


def _sequence(text: ScoringRequest) -> NDArray[np.int64]:
    return np.concatenate([text.context, *(ids[:-1] for ids in text.continuations)])


def _places(
    texts: Sequence[ScoringRequest], shape: torch.Size
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which continuation each token is of, and its position in its own text: (B, T) each."""
    branches = np.full(shape, _PADDING)
    positions = np.zeros(shape, np.int64)
    for row, text in enumerate(texts):
        start = len(text.context)
        branches[row, :start] = _CONTEXT
        positions[row, :start] = np.arange(start)
        for number, ids in enumerate(text.continuations):
            end = start + len(ids) - 1
            branches[row, start:end] = number
            positions[row, start:end] = len(text.context) + np.arange(end - start)
            start = end
    return branches, positions


def _mask(branches: NDArray[np.int64], dtype: torch.dtype) -> Tensor:
    """Return 0 where a token may look, the type's smallest number elsewhere: (B, 1, T, T)."""
    branch = torch.from_numpy(branches)
    query, key = branch[:, :, None], branch[:, None, :]
    earlier = torch.ones(branch.shape[1], branch.shape[1], dtype=torch.bool).tril()
    seen = earlier & ((key == _CONTEXT) | (key == query))
    mask = torch.zeros(seen.shape, dtype=dtype)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def _questions(
    texts: Sequence[ScoringRequest], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Return all tokens that are asked for, in the order of the texts and their pieces.

    Returns:
        Where the state before each stands in the flattened batch, int64 (Q,); the tokens, int64
        (Q,); and how many belong to each piece: contexts where they are asked for (less their first
        token), and continuations.
    """
    places: list[NDArray[np.int64]] = []
    tokens: list[NDArray[np.int64]] = []
    for row, text in enumerate(texts):
        size = len(text.context)
        first = row * width
        if text.whole:
            places.append(first + np.arange(size - 1))
            tokens.append(text.context[1:])
        start = size
        for ids in text.continuations:
            # Of the first token the context's last state, of the others those of the continuation.
            behind = first + np.arange(start - 1, start - 1 + len(ids))
            behind[0] = first + size - 1
            places.append(behind)
            tokens.append(ids)
            start += len(ids) - 1
    return np.concatenate(places), np.concatenate(tokens), [len(piece) for piece in tokens]


def _behind_the_first(seen: TokenScores) -> TokenScores:
    """Put the first token of a context in front, about which nothing can be asked."""
    first = TokenScores.nothing(1)
    return TokenScores(
        np.concatenate([first.losses, seen.losses]),
        np.concatenate([first.greedy_ids, seen.greedy_ids]),
        np.concatenate([first.greedy_losses, seen.greedy_losses]),
    )
