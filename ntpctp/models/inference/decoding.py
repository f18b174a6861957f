"""Greedy decoding of many prompts, with a cache of keys and values if the family supports it.

Sequences are padded on the right and leave the batch when they end. The cache holds the padding,
which is masked; positions are explicit. Two prompts are decoded with and without the cache to test
that the numbers agree; families without such a cache compute the whole sequence for each token.

Shape letters: B = sequences of a batch, T = tokens in the cache, D = width.
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
    """A generated text."""

    ids: NDArray[np.int64]  # without the prompt and without the end of sequence
    stopped: bool  # with the end-of-sequence token, before the limit
    log_probability: float  # of the generated tokens, end of sequence included, nats


def decode_greedily(
    model: PreTrainedModel,
    prompts: Sequence[NDArray[np.int64]],
    limits: Sequence[int],
    eos_token_id: int,
    budget: TokenBudget,
) -> list[Decoded]:
    """Continue each prompt, always with the most probable token.

    Args:
        model: in evaluation mode.
        prompts: token ids, each of shape (its length,).
        limits: the most tokens to generate for each; the model's context bounds them, too.
        eos_token_id: ends a sequence; finished sequences leave the batch.
        budget: bounds the tokens of a forward pass, and those in the cache.

    Returns:
        One result per prompt, in order. Costs one pass over each prompt and, for each generated
        token, a pass over that token with a cache, or over the whole sequence without.
    """
    if not prompts:
        return []
    context = context_length(model.config) or 2**62
    room = [max(0, min(limit, context - len(p))) for p, limit in zip(prompts, limits, strict=True)]
    results: dict[int, Decoded] = {
        k: Decoded(np.array([], np.int64), False, 0.0) for k, most in enumerate(room) if not most
    }
    open_ = [k for k, most in enumerate(room) if most]
    if not open_:
        return list(results.values())
    # A short prompt is padded to the longest of its batch, and may have more room than that one.
    longest = max(len(prompts[k]) for k in open_) + max(room)
    kind: type[_Decoder] = _Cached if can_cache(model, prompts, longest) else _Uncached

    def work(indices: list[int]) -> None:
        batch = [open_[k] for k in indices]
        decoder = kind(model, [prompts[k] for k in batch])
        results.update(decode_to_end(decoder, {k: room[k] for k in batch}, eos_token_id))

    budget.run([len(prompts[k]) + room[k] for k in open_], work, model)
    return [results[k] for k in range(len(prompts))]


def decode_to_end(
    decoder: "_Decoder", rooms: dict[int, int], eos_token_id: int
) -> dict[int, Decoded]:
    """Decode sequences until all have ended.

    Args:
        decoder: of the sequences.
        rooms: key of each sequence -> the most tokens to generate, at least 1; in the decoder's
            order.
        eos_token_id: ends a sequence.
    """
    results: dict[int, Decoded] = {}
    generated: dict[int, list[int]] = {name: [] for name in rooms}
    log_probabilities = dict.fromkeys(rooms, 0.0)
    while generated:
        tokens, losses = decoder.next_tokens()
        keep = []
        for row, (name, token, loss) in enumerate(
            zip(list(generated), tokens, losses, strict=True)
        ):
            log_probabilities[name] -= loss
            stopped = token == eos_token_id
            if not stopped:
                generated[name].append(token)
            if stopped or len(generated[name]) >= rooms[name]:
                ids = np.array(generated.pop(name), np.int64)
                results[name] = Decoded(ids, stopped, log_probabilities[name])
            else:
                keep.append(row)
        if generated:
            decoder.append(keep, [ids[-1] for ids in generated.values()])
    return results


class _Decoder(ABC):
    """A batch of sequences that are being continued.

    Args:
        model: in evaluation mode.
        prompts: one per sequence.
    """

    @abstractmethod
    def __init__(self, model: PreTrainedModel, prompts: Sequence[NDArray[np.int64]]): ...

    @abstractmethod
    def last_states(self) -> Tensor:
        """Run the model on the new tokens; return each sequence's last hidden state: (B, D)."""

    @abstractmethod
    def append(self, keep: Sequence[int], tokens: Sequence[int]) -> None:
        """Continue only with the sequences ``keep``, each with one more token."""

    model: PreTrainedModel

    @torch.no_grad()
    def next_tokens(self) -> tuple[list[int], list[float]]:
        """Return the most probable next token of each sequence, and -log of its probability."""
        states = self.last_states()
        none = torch.empty(0, dtype=torch.int64, device=states.device)
        predicted = predictions(self.model, states, none, none)
        return predicted.greedy_ids.tolist(), predicted.greedy_losses.double().tolist()


class _Uncached(_Decoder):
    """Sequences that are computed from their first token each time."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[NDArray[np.int64]]):
        self.model, self._sequences = model, list(prompts)

    def last_states(self) -> Tensor:
        ids, mask = pad(self._sequences, self.model.device)
        hidden = self.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
        states: Tensor = hidden.last_hidden_state
        return states[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]

    def append(self, keep: Sequence[int], tokens: Sequence[int]) -> None:
        self._sequences = [
            np.append(self._sequences[row], token) for row, token in zip(keep, tokens, strict=True)
        ]


class _Cached(_Decoder):
    """Sequences whose keys and values are cached."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[NDArray[np.int64]]):
        self.model, self._cache = model, DynamicCache(config=model.config)
        self._ids, self._mask = pad(prompts, model.device)
        self._lengths = self._mask.sum(1)
        self._positions = torch.arange(self._ids.shape[1], device=model.device).expand_as(self._ids)
        self._last = self._lengths - 1  # index of each sequence's newest token in the next input

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


def decoder_from_cache(
    model: PreTrainedModel,
    cache: DynamicCache,
    mask: Tensor,
    positions: Sequence[int],
    tokens: Sequence[int],
) -> _Decoder:
    """Return a decoder that continues from a cache.

    Args:
        model: the model that filled the cache.
        cache: of B sequences and T tokens; changed.
        mask: int64 (B, T), 1 where a token of the cache belongs to the sequence.
        positions: of the next input token, one per sequence.
        tokens: these tokens, generated but not in the cache.
    """
    decoder = _Cached.__new__(_Cached)
    decoder.model, decoder._cache, decoder._mask = model, cache, mask
    decoder._lengths = torch.tensor(positions, device=mask.device)
    decoder.append(range(len(mask)), tokens)
    return decoder


@torch.no_grad()
def can_cache(model: PreTrainedModel, prompts: Sequence[NDArray[np.int64]], longest: int) -> bool:
    """Whether two of the prompts, of different lengths, get the same numbers with a cache.

    The test pads prompts in the cache and reorders sequences, so it finds families that mishandle a
    cache with gaps. Attention windows count masked tokens, which shows only once the window is
    full: families with a window use no cache where a sequence may outgrow it.

    Args:
        model: in evaluation mode.
        prompts: the shortest and the longest are tested.
        longest: tokens of the longest final sequence, padding included.
    """
    window = attention_window(model.config)
    if window is not None and longest > window:
        return False
    parameters = inspect.signature(model.base_model.forward).parameters
    if not {"past_key_values", "position_ids"} <= parameters.keys():
        return False
    tested = [min(prompts, key=len), max(prompts, key=len)]
    states = []
    for kind in (_Cached, _Uncached):
        try:
            decoder = kind(model, tested)
            first = decoder.last_states()
            decoder.append([1, 0], [int(tested[1][-1]), int(tested[0][-1])])
            states.append(torch.cat([first, decoder.last_states()]).float())
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            return False
    tolerance = 1e-4 if model.dtype.itemsize >= 4 else 5e-2
    cached, uncached = states
    return torch.allclose(cached, uncached, rtol=tolerance, atol=tolerance)
