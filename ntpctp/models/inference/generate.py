"""Greedy generation for prompts whose reference is scored, too.

Up to the first token that is not the greedy choice, greedy decoding generates the reference itself,
which scoring the reference shows. From there on decoding reuses the keys and values of that forward
pass: later tokens of the reference, other continuations and padding are masked.

Shape letters: B = requests of a batch, T = tokens of the longest sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from ntpctp.data.encoded import EncodedExample
from ntpctp.models.build import context_length
from ntpctp.models.inference.batches import TokenBudget
from ntpctp.models.inference.decoding import (
    Decoded,
    can_cache,
    decode_greedily,
    decode_to_end,
    decoder_from_cache,
)
from ntpctp.models.inference.forward import ScoredBatch, ScoringRequest, ScoringResult
from ntpctp.models.inference.requests import score_requests
from ntpctp.models.inference.score import ExampleScores

_MAX_WAITING_TOKENS = 16_384
"""Decoding continues sequences of several batches together: a step has one token of each."""
_MAX_WAITING_BYTES = 2**28
"""Of the keys and values that wait for it; for large models these are fewer tokens."""


@dataclass(frozen=True, slots=True, eq=False)
class GenerationRequest:
    """A request to score an example among other continuations, and to generate its answer.

    Attributes:
        scoring: its context and one of its continuations are the example.
        example: the reference; generation starts at ``answer_start``.
        candidate: index of the continuation that is the example's.
        limit: the most tokens to generate; the model's context bounds them, too. None: only score.
    """

    scoring: ScoringRequest
    example: EncodedExample
    candidate: int = 0
    limit: int | None = None

    def example_scores(self, result: ScoringResult) -> ExampleScores:
        """Return the scores of the example from those of the request."""
        return ExampleScores.of(self.example, result.context, result.continuations[self.candidate])


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    """A sequence to be continued.

    Attributes:
        item: index of its request.
        prefix: the tokens generated so far.
        room: the most tokens that may follow.
        cache: of its batch; None: the sequence is computed from its start.
        row: of the sequence in the cache.
        visible: bool (T,): the positions in the cache that belong to prompt and prefix.
    """

    item: int
    prefix: Decoded
    room: int
    cache: DynamicCache | None
    row: int
    visible: Tensor


def score_and_generate(
    model: PreTrainedModel,
    requests: Sequence[GenerationRequest],
    eos_token_id: int,
    budget: TokenBudget,
) -> tuple[list[ScoringResult], list[Decoded | None]]:
    """Score requests, and generate what ``decode_greedily`` would generate for their prompts.

    Args:
        model: in evaluation mode.
        requests: the results have their order.
        eos_token_id: ends a sequence.
        budget: bounds a forward pass.

    Returns:
        The scores, and the generated tokens; None where none were requested.
    """
    generating = [request for request in requests if request.limit is not None]
    keep_cache = bool(generating) and _can_reuse_cache(model, generating)
    context = context_length(model.config) or 2**62
    answers: list[Decoded | None] = [None] * len(requests)
    pending: dict[int, _Pending] = {}

    def collect(batch: ScoredBatch) -> None:
        """Collect the sequences of a batch that continue; repeated if the batch is repeated."""
        for row, (item, result) in enumerate(zip(batch.items, batch.results, strict=True)):
            request = requests[item]
            if request.limit is None:
                continue
            example = request.example
            room = min(request.limit, context - example.answer_start)
            scores = request.example_scores(result)
            prefix, continues = _known_prefix(example, scores, room, eos_token_id)
            if not continues:
                answers[item] = prefix
                continue
            visible = _visible(request, prefix, batch.mask.shape[1])
            rest = room - len(prefix.ids)
            pending[item] = _Pending(item, prefix, rest, batch.cache, row, visible)
        if sum(len(one.visible) for one in pending.values()) > _max_waiting(model):
            generate()

    def generate() -> None:
        for item, decoded in _continued(model, requests, pending, eos_token_id, budget).items():
            answers[item] = decoded
        pending.clear()

    scoring = [request.scoring for request in requests]
    results = score_requests(model, scoring, budget, after=collect, keep_cache=keep_cache)
    generate()
    return results, answers


def _known_prefix(
    example: EncodedExample, scores: ExampleScores, room: int, eos_token_id: int
) -> tuple[Decoded, bool]:
    """Return the generated tokens that the scores imply, and whether generation continues."""
    start = example.answer_start
    wrong = np.flatnonzero(~scores.matches[start:])
    # The reference ends with the end of sequence, so generation stops if all tokens match.
    last = int(wrong[0]) if len(wrong) else len(example) - start - 1
    if last >= room:  # the limit truncates the reference itself
        ids = example.input_ids[start : start + room].astype(np.int64)
        return Decoded(ids, False, -float(scores.losses[start : start + room].sum())), False
    token = int(scores.greedy_ids[start + last])
    stopped = token == eos_token_id
    ids = np.append(example.input_ids[start : start + last], [] if stopped else [token])
    loss = scores.losses[start : start + last].sum() + scores.greedy_losses[start + last]
    return Decoded(ids.astype(np.int64), stopped, -float(loss)), not stopped and len(ids) < room


def _visible(request: GenerationRequest, prefix: Decoded, width: int) -> Tensor:
    """Return which cached tokens belong to prompt and prefix: bool (T,).

    The last token of the prefix is not in the cache.
    """
    visible = np.zeros(width, bool)
    scoring = request.scoring
    before = request.example.answer_start + len(prefix.ids) - 1
    in_context = min(before, len(scoring.context))
    visible[:in_context] = True
    earlier = scoring.continuations[: request.candidate]
    start = len(scoring.context) + sum(len(ids) - 1 for ids in earlier)
    visible[start : start + before - in_context] = True
    return torch.from_numpy(visible)


def _continued(
    model: PreTrainedModel,
    requests: Sequence[GenerationRequest],
    pending: dict[int, _Pending],
    eos_token_id: int,
    budget: TokenBudget,
) -> dict[int, Decoded]:
    """Generate the rest of all pending sequences."""
    rests: dict[int, Decoded] = {}
    uncached = [one for one in pending.values() if one.cache is None]
    examples = [requests[one.item].example for one in uncached]
    prompts = [
        np.append(example.input_ids[: example.answer_start], one.prefix.ids)
        for example, one in zip(examples, uncached, strict=True)
    ]
    decoded = decode_greedily(model, prompts, [one.room for one in uncached], eos_token_id, budget)
    rests |= {one.item: rest for one, rest in zip(uncached, decoded, strict=True)}
    cached = [one for one in pending.values() if one.cache is not None]

    def work(indices: list[int]) -> None:
        batch = [cached[k] for k in indices]
        cache, mask = _merged_cache(model, batch)
        positions = [requests[o.item].example.answer_start + len(o.prefix.ids) - 1 for o in batch]
        tokens = [int(o.prefix.ids[-1]) for o in batch]
        decoder = decoder_from_cache(model, cache, mask, positions, tokens)
        rooms = {o.item: o.room for o in batch}
        rests.update(decode_to_end(decoder, rooms, eos_token_id))

    lengths = [len(one.visible) + one.room for one in cached]
    TokenBudget(_max_waiting(model)).run(lengths, work, model)
    return {
        item: replace(
            rest,
            ids=np.concatenate([pending[item].prefix.ids, rest.ids]),
            log_probability=pending[item].prefix.log_probability + rest.log_probability,
        )
        for item, rest in rests.items()
    }


def _merged_cache(model: PreTrainedModel, batch: Sequence[_Pending]) -> tuple[DynamicCache, Tensor]:
    """Return one cache of sequences from several caches, and the mask of their visible tokens."""
    width = max(len(one.visible) for one in batch)
    merged = DynamicCache(config=model.config)
    first = batch[0].cache
    assert first is not None
    for layer in range(len(first.layers)):
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for one in batch:
            assert one.cache is not None
            cached = one.cache.layers[layer]
            assert isinstance(cached, DynamicLayer)
            for parts, tensor in ((keys, cached.keys), (values, cached.values)):
                assert tensor is not None
                missing = width - tensor.shape[2]
                parts.append(torch.nn.functional.pad(tensor[one.row], (0, 0, 0, missing)))
        merged.update(torch.stack(keys), torch.stack(values), layer)
    mask = torch.zeros(len(batch), width, dtype=torch.int64, device=model.device)
    for row, one in zip(mask, batch, strict=True):
        row[: len(one.visible)] = one.visible.to(row)
    return merged, mask


def _max_waiting(model: PreTrainedModel) -> int:
    """Return how many cached tokens may wait, each with a key and a value in every layer."""
    config = model.config
    bytes_per_token = 2 * config.num_hidden_layers * config.hidden_size * model.dtype.itemsize
    return max(1, min(_MAX_WAITING_TOKENS, _MAX_WAITING_BYTES // int(bytes_per_token)))


def _can_reuse_cache(model: PreTrainedModel, requests: Sequence[GenerationRequest]) -> bool:
    """Whether decoding can continue from a cache of which some tokens are masked."""
    prompts = [r.example.input_ids[: r.example.answer_start] for r in requests]
    longest = max(r.scoring.num_tokens for r in requests) + max(r.limit or 0 for r in requests)
    layers = DynamicCache(config=model.config).layers
    # The layers of some families keep something else than keys and values.
    plain = all(isinstance(layer, DynamicLayer) for layer in layers)
    return plain and can_cache(model, prompts, longest)
