"""Requests of all lengths, scored in batches; contexts are computed once if the family allows it.

Two requests are scored in both ways to find families whose numbers differ when continuations share
a context (other masks, other positions), or when the last feed-forward module is run only at some
positions. Such families compute the context for each continuation, or all positions.
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
    requests: Sequence[ScoringRequest],
    budget: TokenBudget,
    perturbation: Perturbation | None = None,
    *,
    after: Callable[[ScoredBatch], None] | None = None,
    keep_cache: bool = False,
) -> list[ScoringResult]:
    """Score requests, computing each context once.

    Args:
        model: in evaluation mode.
        requests: of any lengths; the results have their order.
        budget: bounds a forward pass.
        perturbation: of embeddings or hidden states; item k is ``requests[k]``.
        after: called with each scored batch; where continuations cannot share a context, called
            once with all requests and without a cache.
        keep_cache: whether batches passed to ``after`` hold their keys and values.
    """
    if not requests:
        return []
    capabilities = _CAPABILITIES.setdefault(model, _Capabilities())
    part = (
        None
        if all(request.score_context for request in requests)
        else capabilities.skippable(model, requests)
    )
    if part is not None and perturbation is not None:
        # A perturbation inside the module applies at all positions.
        perturbed = module_of(model, perturbation.module)
        part = None if any(module is perturbed for module in part.modules()) else part
    branching = [request for request in requests if len(request.continuations) > 1]
    if branching and not capabilities.can_branch(model, branching, part):
        results = _score_separately(model, requests, budget, part, perturbation)
        if after is not None:
            after(ScoredBatch(range(len(requests)), results, torch.empty(len(requests), 0), None))
        return results
    return _score_in_batches(
        model,
        requests,
        range(len(requests)),
        budget,
        part,
        perturbation,
        after=after,
        keep_cache=keep_cache,
    )


def log_likelihoods(
    model: PreTrainedModel,
    requests: Sequence[ScoringRequest],
    budget: TokenBudget,
    perturbation: Perturbation | None = None,
) -> list[NDArray[np.float64]]:
    """Return sum_t log p(c_t | context, c_<t) of each continuation c of each request, in nats.

    One float64 array of shape (continuations,) per request; arguments as for ``score_requests``.
    """
    return [
        np.array([-scores.losses.sum() for scores in result.continuations])
        for result in score_requests(model, requests, budget, perturbation)
    ]


def _score_in_batches(
    model: PreTrainedModel,
    requests: Sequence[ScoringRequest],
    items: Sequence[int],
    budget: TokenBudget,
    part: nn.Module | None,
    perturbation: Perturbation | None,
    *,
    after: Callable[[ScoredBatch], None] | None = None,
    keep_cache: bool = False,
) -> list[ScoringResult]:
    """Score requests, the k-th of which belongs to item ``items[k]``."""
    results: list[ScoringResult | None] = [None] * len(requests)

    def work(indices: list[int]) -> None:
        numbers = [items[k] for k in indices]
        cache = DynamicCache(config=model.config) if keep_cache else None
        batch = score_batch(
            model, [requests[k] for k in indices], numbers, part, perturbation, cache
        )
        for index, result in zip(indices, batch.results, strict=True):
            results[index] = result
        if after is not None:
            after(batch)

    budget.run([request.num_tokens for request in requests], work, model)
    return [result for result in results if result is not None]


def _score_separately(
    model: PreTrainedModel,
    requests: Sequence[ScoringRequest],
    budget: TokenBudget,
    part: nn.Module | None,
    perturbation: Perturbation | None,
) -> list[ScoringResult]:
    """Compute each context again for each continuation."""
    single = [
        ScoringRequest(request.context, (ids,), request.score_context and number == 0)
        for request in requests
        for number, ids in enumerate(request.continuations)
    ]
    items = [item for item, request in enumerate(requests) for _ in request.continuations]
    single_results = iter(_score_in_batches(model, single, items, budget, part, perturbation))
    results = []
    for request in requests:
        separate = [next(single_results) for _ in request.continuations]
        pieces = tuple(result.continuations[0] for result in separate)
        results.append(ScoringResult(separate[0].context, pieces))
    return results


class _Capabilities:
    """The shortcuts that give the right numbers with a model, as tested on two requests."""

    def __init__(self) -> None:
        self._part: list[nn.Module | None] = []  # empty: not tested yet
        self._branches_up_to = 0  # input tokens of a context and one continuation
        self._never_branches = False

    def can_branch(
        self, model: PreTrainedModel, requests: Sequence[ScoringRequest], part: nn.Module | None
    ) -> bool:
        """Whether the longest requests get the same numbers with a shared context.

        Tested once, and again for longer requests. Not with an attention window that the mask of
        shared contexts would lift.
        """
        longest = max(request.longest_path for request in requests)
        window = attention_window(model.config)
        if self._never_branches or (window is not None and longest > window):
            return False
        if longest > self._branches_up_to:
            self._never_branches = not _branches(model, _longest(requests), part)
            self._branches_up_to = longest
        return not self._never_branches

    def skippable(
        self, model: PreTrainedModel, requests: Sequence[ScoringRequest]
    ) -> nn.Module | None:
        """Return the module that may be skipped where no state is needed; None if none may."""
        if not self._part:
            part = last_feed_forward(model)
            if part is not None:
                single = [replace(t, continuations=t.continuations[:1]) for t in _longest(requests)]
                full = score_batch(model, single, [0, 1], None, None).results
                short = _try_to_score(model, single, part)
                if short is None or not _agree(short, full, model):
                    part = None
            self._part.append(part)
        return self._part[0]


_CAPABILITIES: "WeakKeyDictionary[PreTrainedModel, _Capabilities]" = WeakKeyDictionary()


def _branches(
    model: PreTrainedModel, requests: Sequence[ScoringRequest], part: nn.Module | None
) -> bool:
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        return False
    shared = _try_to_score(model, requests, part)
    separate = _score_separately(model, requests, TokenBudget(1), part, None)
    return shared is not None and _agree(shared, separate, model)


def _longest(requests: Sequence[ScoringRequest]) -> list[ScoringRequest]:
    """Return the request with the longest path, and the one with most tokens."""
    return [
        max(requests, key=lambda request: request.longest_path),
        max(requests, key=lambda request: request.num_tokens),
    ]


def _try_to_score(
    model: PreTrainedModel, requests: Sequence[ScoringRequest], part: nn.Module | None
) -> Sequence[ScoringResult] | None:
    """Score two requests in one batch; None if the model raises an error."""
    try:
        return score_batch(model, requests, [0, 1], part, None).results
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        return None


def _agree(
    one: Sequence[ScoringResult], other: Sequence[ScoringResult], model: PreTrainedModel
) -> bool:
    tolerance = 1e-4 if model.dtype.itemsize >= 4 else 5e-2
    return all(
        np.allclose(first.losses, second.losses, rtol=tolerance, atol=tolerance)
        for a, b in zip(one, other, strict=True)
        for first, second in zip(a.continuations, b.continuations, strict=True)
    )
