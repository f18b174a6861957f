"""Greedy decoding of many prompts: with a cache where the family has one that can be trusted.

Rows are padded on the right and leave the batch when they end. The cache keeps the padding, which
the mask hides; positions are given. Whether that gives what reading each row anew gives is tried
on the first rows; families without such a cache are read anew for each token.

Shape letters: B = rows of a batch, T = tokens kept in the cache.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ntpctp.models.build import attention_window, context_length
from ntpctp.models.inference.batches import TokenBudget, is_out_of_memory, pad
from ntpctp.models.inference.head import predictions


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a model wrote."""

    ids: NDArray[np.int64]  # without the prompt and without the end of sequence
    stopped: bool  # whether it ended by itself, before the limit
    log_probability: float  # of what it wrote, the end of sequence included, nats


def decode_greedily(
    model: PreTrainedModel,
    prompts: Sequence[NDArray[np.int64]],
    limits: Sequence[int],
    eos_token_id: int,
    budget: TokenBudget,
) -> list[Decoded]:
    """Write on from each prompt, always by the most probable token.

    Args:
        model: in evaluation mode.
        prompts: token ids, each of shape (its length,).
        limits: the most tokens to write, each; the model's context bounds them too.
        eos_token_id: ends a row; finished rows leave the batch.
        budget: bounds what a forward pass reads, and the tokens that are kept in the cache.

    Returns:
        One result a prompt, in order. Costs one pass over each prompt and, with a cache, one over
        each token written; without, one over the whole row for each.
    """
    if not prompts:
        return []
    context = context_length(model.config) or 2**62
    room = [max(0, min(limit, context - len(p))) for p, limit in zip(prompts, limits, strict=True)]
    results: dict[int, Decoded] = {
        k: Decoded(np.array([], np.int64), False, 0.0) for k, most in enumerate(room) if not most
    }
    asked = [k for k, most in enumerate(room) if most]
    if not asked:
        return list(results.values())
    # A short prompt is padded to the longest of its batch, and may have more room than that one.
    longest = max(len(prompts[k]) for k in asked) + max(room)
    kind: type[_Writer] = _WithCache if can_cache(model, prompts, longest) else _Anew

    def work(indices: list[int]) -> None:
        batch = [asked[k] for k in indices]
        writer = kind(model, [prompts[k] for k in batch])
        results.update(write_on(writer, {k: room[k] for k in batch}, eos_token_id))

    budget.run([len(prompts[k]) + room[k] for k in asked], work, model)
    return [results[k] for k in range(len(prompts))]


def write_on(writer: "_Writer", rooms: dict[int, int], eos_token_id: int) -> dict[int, Decoded]:
    """Write rows to their ends.

    Args:
        writer: of the rows.
        rooms: what a row is called -> the most tokens to write, at least 1; in the writer's order.
        eos_token_id: ends a row.
    """
    results: dict[int, Decoded] = {}
    written: dict[int, list[int]] = {name: [] for name in rooms}
    logs = dict.fromkeys(rooms, 0.0)
    while written:
        tokens, losses = writer.next_tokens()
        keep = []
        for place, (name, token, loss) in enumerate(
            zip(list(written), tokens, losses, strict=True)
        ):
            logs[name] -= loss
            stopped = token == eos_token_id
            if not stopped:
                written[name].append(token)
            if stopped or len(written[name]) >= rooms[name]:
                ids = np.array(written.pop(name), np.int64)
                results[name] = Decoded(ids, stopped, logs[name])
            else:
                keep.append(place)
        if written:
            writer.append(keep, [of_row[-1] for of_row in written.values()])
    return results


class _Writer(ABC):
    """Some rows that are being written on.

    Args:
        model: any.
        prompts: one a row.
    """

    @abstractmethod
    def __init__(self, model: PreTrainedModel, prompts: Sequence[NDArray[np.int64]]): ...

    @abstractmethod
    def last_states(self) -> Tensor:
        """Read what is new; return the hidden state behind the last token of each row: (B, D)."""

    @abstractmethod
    def append(self, keep: Sequence[int], tokens: Sequence[int]) -> None:
        """Go on with the rows ``keep`` alone, each with one more token."""

    model: PreTrainedModel

    @torch.no_grad()
    def next_tokens(self) -> tuple[list[int], list[float]]:
        """Return the most probable next token of each row, and -log of its probability."""
        states = self.last_states()
        nothing = torch.empty(0, dtype=torch.int64, device=states.device)
        found = predictions(self.model, states, nothing, nothing)
        return found.greedy_ids.tolist(), found.greedy_losses.double().tolist()


class _Anew(_Writer):
    """Rows that are read from their first token each time."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[NDArray[np.int64]]):
        self.model, self._rows = model, list(prompts)

    def last_states(self) -> Tensor:
        ids, mask = pad(self._rows, self.model.device)
        hidden = self.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        states: Tensor = hidden.last_hidden_state
        return states[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]

    def append(self, keep: Sequence[int], tokens: Sequence[int]) -> None:
        self._rows = [
            np.append(self._rows[place], token) for place, token in zip(keep, tokens, strict=True)
        ]


class _WithCache(_Writer):
    """Rows whose keys and values are kept."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[NDArray[np.int64]]):
        self.model, self._cache = model, DynamicCache(config=model.config)
        self._ids, self._mask = pad(prompts, model.device)
        self._lengths = self._mask.sum(1)
        self._positions = torch.arange(self._ids.shape[1], device=model.device).expand_as(self._ids)
        self._last = self._lengths - 1  # where each row's newest token stands in what is read next

    def last_states(self) -> Tensor:
        hidden = self.model.base_model(
            input_ids=self._ids,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
        )
        states: Tensor = hidden.last_hidden_state
        return states[torch.arange(len(states), device=states.device), self._last]

    def append(self, keep: Sequence[int], tokens: Sequence[int]) -> None:
        if list(keep) != list(range(len(self._mask))):
            kept = torch.tensor(keep, device=self._mask.device)
            self._cache.batch_select_indices(kept)
            self._mask, self._lengths = self._mask[kept], self._lengths[kept]
        self._ids = torch.tensor(tokens, device=self._mask.device)[:, None]
        self._positions = self._lengths[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(self._ids)], dim=1)
        self._lengths = self._lengths + 1
        self._last = torch.zeros_like(self._lengths)


def resumed(
    model: PreTrainedModel,
    cache: DynamicCache,
    mask: Tensor,
    positions: Sequence[int],
    tokens: Sequence[int],
) -> _Writer:
    """Return rows that go on from a cache.

    Args:
        model: the one that has filled the cache.
        cache: of B rows and T tokens; changed.
        mask: int64 (B, T), 1 where a token of the cache belongs to the row.
        positions: of the next token to be read, one a row.
        tokens: these tokens, written but not read.
    """
    writer = _WithCache.__new__(_WithCache)
    writer.model, writer._cache, writer._mask = model, cache, mask
    writer._lengths = torch.tensor(positions, device=mask.device)
    writer.append(range(len(mask)), tokens)
    return writer


@torch.no_grad()
def can_cache(model: PreTrainedModel, prompts: Sequence[NDArray[np.int64]], longest: int) -> bool:
    """Whether two of the prompts, of different lengths, are continued alike with a cache.

    Prompts are padded in it, and rows leave it: whatever a family does not do right with a cache
    that has holes shows here. Windows of attention count what the mask hides, and show only once
    they are full: such families are read anew where a row may grow so long.

    Args:
        model: any.
        prompts: the shortest and the longest are tried.
        longest: tokens that a row may have in the end, padding included.
    """
    window = attention_window(model.config)
    if window is not None and longest > window:
        return False
    parameters = inspect.signature(model.base_model.forward).parameters
    if not {"past_key_values", "position_ids"} <= parameters.keys():
        return False
    tried = [min(prompts, key=len), max(prompts, key=len)]
    states = []
    for kind in (_WithCache, _Anew):
        try:
            writer = kind(model, tried)
            first = writer.last_states()
            writer.append([1, 0], [int(tried[1][-1]), int(tried[0][-1])])
            states.append(torch.cat([first, writer.last_states()]).float())
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            return False
    tolerance = 1e-4 if model.dtype.itemsize >= 4 else 5e-2
    cached, anew = states
    return torch.allclose(cached, anew, rtol=tolerance, atol=tolerance)
