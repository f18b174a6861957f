"""Texts of all lengths, read in batches: contexts once, wherever the family allows it.

Families whose numbers differ when a context is shared by its continuations (other masks, other
positions), or when the last feed-forward part is run at some positions alone, are found by trying
on two texts, and read one continuation at a time, or in full.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from ntpctp.models.build import attention_window
from ntpctp.models.inference.batches import TokenBudget, is_out_of_memory
from ntpctp.models.inference.forward import ScoredBatch, ScoringRequest, ScoringResult, score_batch
from ntpctp.models.inference.perturbation import Perturbation, module_of
from ntpctp.models.inference.shortcuts import last_feed_forward


def score_requests(
    model: PreTrainedModel,
    texts: Sequence[ScoringRequest],
    budget: TokenBudget,
    perturbation: Perturbation | None = None,
    *,
    after: Callable[[ScoredBatch], None] | None = None,
    keep_cache: bool = False,
) -> list[ScoringResult]:
    """Read ``texts``, each context once.

    Args:
        model: in evaluation mode.
        texts: in any order and of any lengths; the result has their order.
        budget: bounds a forward pass.
        perturbation: of what the model reads or computes; item k is ``texts[k]``.
        after: called with each batch once it is read; with all texts at once, and without a cache,
            where continuations have to be read apart.
        keep_cache: whether ``after`` is given the keys and values of its batch.
    """
    if not texts:
        return []
    trials = _TRIALS.setdefault(model, _Trials())
    part = None if all(text.whole for text in texts) else trials.skippable(model, texts)
    if part is not None and perturbation is not None:
        # What is disturbed within it is disturbed at all positions.
        disturbed = module_of(model, perturbation.module)
        part = None if any(module is disturbed for module in part.modules()) else part
    branching = [text for text in texts if len(text.continuations) > 1]
    if branching and not trials.can_branch(model, branching, part):
        found = _read_apart(model, texts, budget, part, perturbation)
        if after is not None:
            after(ScoredBatch(range(len(texts)), found, torch.empty(len(texts), 0), None))
        return found
    return _read_in_batches(
        model, texts, range(len(texts)), budget, part, perturbation, after, keep_cache
    )


def log_likelihoods(
    model: PreTrainedModel,
    texts: Sequence[ScoringRequest],
    budget: TokenBudget,
    perturbation: Perturbation | None = None,
) -> list[NDArray[np.float64]]:
    """Return sum_t log p(c_t | context, c_<t) of every continuation c of every text, in nats.

    One float64 array of shape (continuations,) a text; arguments as of ``score_requests``.
    """
    return [
        np.array([-seen.losses.sum() for seen in read.continuations])
        for read in score_requests(model, texts, budget, perturbation)
    ]


def _read_in_batches(
    model: PreTrainedModel,
    texts: Sequence[ScoringRequest],
    items: Sequence[int],
    budget: TokenBudget,
    part: nn.Module | None,
    perturbation: Perturbation | None,
    after: Callable[[ScoredBatch], None] | None = None,
    keep_cache: bool = False,
) -> list[ScoringResult]:
    """Read ``texts``, the k-th of which belongs to item ``items[k]``."""
    results: list[ScoringResult | None] = [None] * len(texts)

    def work(indices: list[int]) -> None:
        of = [items[k] for k in indices]
        cache = DynamicCache(config=model.config) if keep_cache else None
        batch = score_batch(model, [texts[k] for k in indices], of, part, perturbation, cache)
        for index, read in zip(indices, batch.found, strict=True):
            results[index] = read
        if after is not None:
            after(batch)

    budget.run([text.num_tokens for text in texts], work, model)
    return [read for read in results if read is not None]


def _read_apart(
    model: PreTrainedModel,
    texts: Sequence[ScoringRequest],
    budget: TokenBudget,
    part: nn.Module | None,
    perturbation: Perturbation | None,
) -> list[ScoringResult]:
    """Read each context anew for each continuation."""
    single = [
        ScoringRequest(text.context, (ids,), text.whole and number == 0)
        for text in texts
        for number, ids in enumerate(text.continuations)
    ]
    items = [item for item, text in enumerate(texts) for _ in text.continuations]
    read = iter(_read_in_batches(model, single, items, budget, part, perturbation))
    results = []
    for text in texts:
        of_text = [next(read) for _ in text.continuations]
        pieces = tuple(found.continuations[0] for found in of_text)
        results.append(ScoringResult(of_text[0].context, pieces))
    return results


class _Trials:
    """What was found out about a model by trying it."""

    def __init__(self) -> None:
        self._part: list[nn.Module | None] = []  # empty: not tried yet
        self._branches_up_to = 0  # tokens of a path
        self._never_branches = False

    def can_branch(
        self, model: PreTrainedModel, texts: Sequence[ScoringRequest], part: nn.Module | None
    ) -> bool:
        """Whether some of the texts, the longest ones, get the same numbers either way.

        Tried once, and again for longer texts. Not where attention has a window that the mask of
        shared contexts would open.
        """
        longest = max(text.longest_path for text in texts)
        window = attention_window(model.config)
        if self._never_branches or (window is not None and longest > window):
            return False
        if longest > self._branches_up_to:
            self._never_branches = not _branches(model, _few(texts), part)
            self._branches_up_to = longest
        return not self._never_branches

    def skippable(
        self, model: PreTrainedModel, texts: Sequence[ScoringRequest]
    ) -> nn.Module | None:
        """Return what can be left out where nothing is asked for, if that changes no number."""
        if not self._part:
            part = last_feed_forward(model)
            if part is not None:
                single = [replace(t, continuations=t.continuations[:1]) for t in _few(texts)]
                full = score_batch(model, single, [0, 1], None, None).found
                short = _tried(model, single, part)
                if short is None or not _alike(short, full, model):
                    part = None
            self._part.append(part)
        return self._part[0]


_TRIALS: "WeakKeyDictionary[PreTrainedModel, _Trials]" = WeakKeyDictionary()


def _branches(
    model: PreTrainedModel, texts: Sequence[ScoringRequest], part: nn.Module | None
) -> bool:
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return False
    together = _tried(model, texts, part)
    apart = _read_apart(model, texts, TokenBudget(1), part, None)
    return together is not None and _alike(together, apart, model)


def _few(texts: Sequence[ScoringRequest]) -> list[ScoringRequest]:
    """The one with the longest path, and the one with most tokens."""
    return [
        max(texts, key=lambda text: text.longest_path),
        max(texts, key=lambda text: text.num_tokens),
    ]


def _tried(
    model: PreTrainedModel, texts: Sequence[ScoringRequest], part: nn.Module | None
) -> Sequence[ScoringResult] | None:
    """Read two texts together; None if the family does not allow it."""
    try:
        return score_batch(model, texts, [0, 1], part, None).found
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        return None


def _alike(
    one: Sequence[ScoringResult], other: Sequence[ScoringResult], model: PreTrainedModel
) -> bool:
    tolerance = 1e-4 if model.dtype.itemsize >= 4 else 5e-2
    return all(
        np.allclose(first.losses, second.losses, rtol=tolerance, atol=tolerance)
        for a, b in zip(one, other, strict=True)
        for first, second in zip(a.continuations, b.continuations, strict=True)
    )
