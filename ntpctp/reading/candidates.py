"""Log-likelihoods of several continuations of each context, the context read once.

A context and its candidates are one sequence; a mask lets each candidate see the context and
itself alone, and its positions start behind the context. The last token of a candidate is asked
for, never read. Families whose numbers differ when they are read so (other masks, other
positions) are found by trying, and read candidate by candidate.

Shape letters: B = items of a batch, T = tokens of the longest sequence.
"""

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from ntpctp.reading.batches import TokenBudget, is_out_of_memory, pad
from ntpctp.reading.disturbance import Disturbance
from ntpctp.reading.head import log_probabilities, predictions

_CONTEXT, _PADDING = -1, -2


@dataclass(frozen=True, eq=False)
class Choices:
    """What may follow a context.

    Attributes:
        context: token ids, int64, shape (at least 1,).
        candidates: token ids of each continuation, int64, at least one token each.
    """

    context: NDArray[np.int64]
    candidates: tuple[NDArray[np.int64], ...]

    @property
    def num_tokens(self) -> int:
        """Tokens that are read."""
        return len(self.context) + sum(len(candidate) - 1 for candidate in self.candidates)


def log_likelihoods(
    model: PreTrainedModel,
    items: Sequence[Choices],
    budget: TokenBudget,
    disturbance: Disturbance | None = None,
) -> list[NDArray[np.float64]]:
    """Return sum_t log p(c_t | context, c_<t) of every candidate c of every item, in nats.

    Args:
        model: in evaluation mode.
        items: in any order; the result has their order, one array of shape (candidates,) each.
        budget: bounds a forward pass.
        disturbance: of what the model reads or computes; item k is ``items[k]``.
    """
    if not items:
        return []
    read = _together if _can_share(model, items) else _one_by_one
    results: list[NDArray[np.float64]] = [np.array([])] * len(items)

    def work(indices: list[int]) -> None:
        for index, found in zip(
            indices, read(model, [items[k] for k in indices], indices, disturbance), strict=True
        ):
            results[index] = found

    lengths = [
        item.num_tokens
        if read is _together
        else sum(len(item.context) + len(candidate) - 1 for candidate in item.candidates)
        for item in items
    ]
    budget.run(lengths, work, model)
    return results


@torch.no_grad()
def _together(
    model: PreTrainedModel,
    items: Sequence[Choices],
    indices: Sequence[int],
    disturbance: Disturbance | None,
) -> list[NDArray[np.float64]]:
    """Read each context once, all its candidates behind it."""
    ids, mask = pad(
        [np.concatenate([item.context, *(c[:-1] for c in item.candidates)]) for item in items],
        model.device,
    )
    branches, positions = _branches(items, ids.shape)
    where = torch.from_numpy(positions).to(model.device)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if (branches >= 0).any():
        inputs |= {
            "attention_mask": _mask(branches, model.dtype).to(model.device),
            "position_ids": where,
        }
    with nullcontext() if disturbance is None else disturbance.at_work(model, indices, where):
        hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
    # Every token of every candidate is a question about the state before it: of its first token
    # the context's last one. Questions stand in the order of the states they are about.
    states: list[tuple[int, int]] = []  # (row, place)
    questions: list[tuple[int, int, int, int]] = []  # (state, token, row, candidate)
    for row, item in enumerate(items):
        place = len(item.context) - 1
        states.append((row, place))
        questions += [
            (len(states) - 1, int(c[0]), row, number) for number, c in enumerate(item.candidates)
        ]
        for number, candidate in enumerate(item.candidates):
            for token in candidate[1:].tolist():
                place += 1
                states.append((row, place))
                questions.append((len(states) - 1, token, row, number))
    at = torch.tensor(states, device=model.device)
    asked = torch.tensor(questions, device=model.device)
    logs = log_probabilities(
        model, hidden[at[:, 0], at[:, 1]], asked[:, 0].contiguous(), asked[:, 1]
    )
    sums = [np.zeros(len(item.candidates)) for item in items]
    for (_, _, row, number), log in zip(questions, logs.double().tolist(), strict=True):
        sums[row][number] += log
    return sums


def _branches(
    items: Sequence[Choices], shape: torch.Size
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which candidate each token is of, and its position in its own text: (B, T) each."""
    branches = np.full(shape, _PADDING)
    positions = np.zeros(shape, np.int64)
    for row, item in enumerate(items):
        start = len(item.context)
        branches[row, :start] = _CONTEXT
        positions[row, :start] = np.arange(start)
        for number, candidate in enumerate(item.candidates):
            end = start + len(candidate) - 1
            branches[row, start:end] = number
            positions[row, start:end] = len(item.context) + np.arange(end - start)
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


@torch.no_grad()
def _one_by_one(
    model: PreTrainedModel,
    items: Sequence[Choices],
    indices: Sequence[int],
    disturbance: Disturbance | None,
) -> list[NDArray[np.float64]]:
    """Read each context anew for each candidate."""
    rows = [
        np.concatenate([item.context, candidate]) for item in items for candidate in item.candidates
    ]
    of = [index for index, item in zip(indices, items, strict=True) for _ in item.candidates]
    ids, mask = pad(rows, model.device)
    read = mask[:, 1:].bool()
    positions = torch.arange(ids.shape[1] - 1, device=ids.device).expand(read.shape)
    with nullcontext() if disturbance is None else disturbance.at_work(model, of, positions):
        hidden = model.base_model(
            input_ids=ids[:, :-1], attention_mask=mask[:, 1:], use_cache=False
        ).last_hidden_state
    for place, context in enumerate(item.context for item in items for _ in item.candidates):
        read[place, : len(context) - 1] = False
    found = predictions(model, hidden[read], ids[:, 1:][read])
    sums = torch.zeros(len(rows), dtype=torch.float64, device=ids.device)
    sums.index_add_(0, read.nonzero()[:, 0], -found.losses.double())
    per_row = iter(sums.tolist())
    return [np.array([next(per_row) for _ in item.candidates]) for item in items]


def _can_share(model: PreTrainedModel, items: Sequence[Choices]) -> bool:
    """Whether two of the items, the longest and the first, get the same numbers either way."""
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return False
    longest = max(items, key=lambda item: item.num_tokens)
    tried = [replace(item) for item in (items[0], longest)]
    try:
        together = _together(model, tried, [0, 1], None)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        return False
    apart = _one_by_one(model, tried, [0, 1], None)
    tolerance = 1e-4 if model.dtype.itemsize >= 4 else 5e-2
    return all(
        np.allclose(a, b, rtol=tolerance, atol=tolerance)
        for a, b in zip(together, apart, strict=True)
    )
