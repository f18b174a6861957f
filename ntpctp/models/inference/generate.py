"""What a model writes behind each prompt, decoded from where it leaves the reference.

Up to the first token that is not the greedy choice, greedy decoding writes the reference itself,
and reading the reference has shown it. From there on the keys and values of that pass are used
again: tokens of the reference behind that place, other continuations and padding are hidden.

Shape letters: B = texts of a batch, T = tokens of the longest sequence.
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
from ntpctp.models.inference.decoding import Decoded, can_cache, decode_greedily, resumed, write_on
from ntpctp.models.inference.forward import ScoredBatch, ScoringRequest, ScoringResult
from ntpctp.models.inference.requests import score_requests
from ntpctp.models.inference.score import ExampleScores

_KEPT_TOKENS = 16_384
"""Rows are written on together from several batches: a step reads one token of each."""
_KEPT_BYTES = 2**28
"""Of the keys and values that wait for that; large models have fewer tokens in them."""


@dataclass(frozen=True, slots=True, eq=False)
class GenerationRequest:
    """A text to read, and the row in it to be answered.

    Attributes:
        text: its context and one of its continuations are the row.
        row: the reference; decoding takes over at ``answer_start``.
        own: which continuation it is.
        limit: the most tokens to write; the model's context bounds them too. None: nothing is
            written.
    """

    text: ScoringRequest
    row: EncodedExample
    own: int = 0
    limit: int | None = None

    def read(self, found: ScoringResult) -> ExampleScores:
        """Return how the row was read."""
        return ExampleScores.of(self.row, found.context, found.continuations[self.own])


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    """A row to be written on.

    Attributes:
        item: its number.
        begun: what is written.
        room: tokens that may follow.
        cache: of its batch; None: it is read anew.
        place: of the row in it.
        visible: bool (T,): what of the cache belongs to the row and what is written.
    """

    item: int
    begun: Decoded
    room: int
    cache: DynamicCache | None
    place: int
    visible: Tensor


def score_and_generate(
    model: PreTrainedModel,
    asked: Sequence[GenerationRequest],
    eos_token_id: int,
    budget: TokenBudget,
) -> tuple[list[ScoringResult], list[Decoded | None]]:
    """Read texts, and return what ``decode_greedily`` would write behind the prompts of their rows.

    Args:
        model: in evaluation mode.
        asked: in any order; the results have their order.
        eos_token_id: ends a row.
        budget: bounds a forward pass.

    Returns:
        The texts as read, and what was written; None where nothing was to be written.
    """
    writing = [one for one in asked if one.limit is not None]
    again = bool(writing) and _can_resume(model, writing)
    context = context_length(model.config) or 2**62
    answers: list[Decoded | None] = [None] * len(asked)
    pending: dict[int, _Pending] = {}

    def take(batch: ScoredBatch) -> None:
        """Note what of a batch goes on; the same again if the batch is read again."""
        for place, (item, found) in enumerate(zip(batch.items, batch.found, strict=True)):
            one = asked[item]
            if one.limit is None:
                continue
            room = min(one.limit, context - one.row.answer_start)
            begun, goes_on = _begun(one.row, one.read(found), room, eos_token_id)
            if not goes_on:
                answers[item] = begun
                continue
            # Within what was read: padding is behind it.
            visible = _of_the_row(one, begun, batch.mask.shape[1])
            rest = room - len(begun.ids)
            pending[item] = _Pending(item, begun, rest, batch.cache, place, visible)
        if sum(len(one.visible) for one in pending.values()) > _most_kept(model):
            write()

    def write() -> None:
        for item, decoded in _written(model, asked, pending, eos_token_id, budget).items():
            answers[item] = decoded
        pending.clear()

    found = score_requests(model, [one.text for one in asked], budget, after=take, keep_cache=again)
    write()
    return found, answers


def _begun(
    row: EncodedExample, seen: ExampleScores, room: int, eos_token_id: int
) -> tuple[Decoded, bool]:
    """Return what is known to be written, and whether that goes on."""
    start = row.answer_start
    wrong = np.flatnonzero(~seen.matches[start:])
    # The reference ends with the end of sequence, so a row that is right throughout has stopped.
    last = int(wrong[0]) if len(wrong) else len(row) - start - 1
    if last >= room:  # the limit cuts the reference itself
        ids = row.input_ids[start : start + room].astype(np.int64)
        return Decoded(ids, False, -float(seen.losses[start : start + room].sum())), False
    token = int(seen.greedy_ids[start + last])
    stopped = token == eos_token_id
    ids = np.append(row.input_ids[start : start + last], [] if stopped else [token])
    loss = seen.losses[start : start + last].sum() + seen.greedy_losses[start + last]
    return Decoded(ids.astype(np.int64), stopped, -float(loss)), not stopped and len(ids) < room


def _of_the_row(one: GenerationRequest, begun: Decoded, width: int) -> Tensor:
    """Return which tokens of a sequence are the row's and written: bool (T,).

    All before the last token that was written, which the cache does not hold.
    """
    visible = np.zeros(width, bool)
    before = one.row.answer_start + len(begun.ids) - 1
    in_context = min(before, len(one.text.context))
    visible[:in_context] = True
    start = len(one.text.context) + sum(len(ids) - 1 for ids in one.text.continuations[: one.own])
    visible[start : start + before - in_context] = True
    return torch.from_numpy(visible)


def _written(
    model: PreTrainedModel,
    asked: Sequence[GenerationRequest],
    pending: dict[int, _Pending],
    eos_token_id: int,
    budget: TokenBudget,
) -> dict[int, Decoded]:
    """Write all pending rows to their ends."""
    rests: dict[int, Decoded] = {}
    waiting = list(pending.values())
    anew = [one for one in waiting if one.cache is None]
    prompts = [
        np.append(asked[one.item].row.input_ids[: asked[one.item].row.answer_start], one.begun.ids)
        for one in anew
    ]
    decoded = decode_greedily(model, prompts, [one.room for one in anew], eos_token_id, budget)
    rests |= {one.item: rest for one, rest in zip(anew, decoded, strict=True)}
    kept = [one for one in waiting if one.cache is not None]

    def work(indices: list[int]) -> None:
        batch = [kept[k] for k in indices]
        cache, mask = _joined(model, batch)
        positions = [asked[o.item].row.answer_start + len(o.begun.ids) - 1 for o in batch]
        tokens = [int(o.begun.ids[-1]) for o in batch]
        writer = resumed(model, cache, mask, positions, tokens)
        rooms = {o.item: o.room for o in batch}
        rests.update(write_on(writer, rooms, eos_token_id))

    lengths = [len(one.visible) + one.room for one in kept]
    TokenBudget(_most_kept(model)).run(lengths, work, model)
    return {
        item: replace(
            rest,
            ids=np.concatenate([pending[item].begun.ids, rest.ids]),
            log_probability=pending[item].begun.log_probability + rest.log_probability,
        )
        for item, rest in rests.items()
    }


def _joined(model: PreTrainedModel, batch: Sequence[_Pending]) -> tuple[DynamicCache, Tensor]:
    """Return the keys and values of some rows of several caches, and the mask of what is theirs."""
    width = max(len(one.visible) for one in batch)
    joined = DynamicCache(config=model.config)
    first = batch[0].cache
    assert first is not None
    for layer in range(len(first.layers)):
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for one in batch:
            assert one.cache is not None
            of_layer = one.cache.layers[layer]
            assert isinstance(of_layer, DynamicLayer)
            for parts, tensor in ((keys, of_layer.keys), (values, of_layer.values)):
                assert tensor is not None
                missing = width - tensor.shape[2]
                parts.append(torch.nn.functional.pad(tensor[one.place], (0, 0, 0, missing)))
        joined.update(torch.stack(keys), torch.stack(values), layer)
    mask = torch.zeros(len(batch), width, dtype=torch.int64, device=model.device)
    for row, one in zip(mask, batch, strict=True):
        row[: len(one.visible)] = one.visible.to(row)
    return joined, mask


def _most_kept(model: PreTrainedModel) -> int:
    """Return how many tokens may wait: by a key and a value of the whole width in each layer."""
    config = model.config
    bytes_a_token = 2 * config.num_hidden_layers * config.hidden_size * model.dtype.itemsize
    return max(1, min(_KEPT_TOKENS, _KEPT_BYTES // int(bytes_a_token)))


def _can_resume(model: PreTrainedModel, asked: Sequence[GenerationRequest]) -> bool:
    """Whether a cache can be gone on with although some of it is hidden."""
    prompts = [one.row.input_ids[: one.row.answer_start] for one in asked]
    longest = max(one.text.num_tokens for one in asked) + max(one.limit or 0 for one in asked)
    kept = DynamicCache(config=model.config).layers
    # Its layers may keep something else than keys and values.
    plain = all(isinstance(layer, DynamicLayer) for layer in kept)
    return plain and can_cache(model, prompts, longest)
