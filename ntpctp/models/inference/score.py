"""Token scores of whole examples: the loss and the greedy choice at every position.

Greedy decoding gives exactly the reference if and only if, at every position of the reference, the
greedy choice given the reference so far is the reference's next token. One forward pass therefore
judges an answer that would take one pass per token to decode.

Shape letter: T = tokens of an example.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ntpctp.data.encoded import EncodedExample
from ntpctp.models.inference.batches import TokenBudget
from ntpctp.models.inference.forward import ScoringRequest, TokenScores
from ntpctp.models.inference.perturbation import Perturbation
from ntpctp.models.inference.requests import score_requests


@dataclass(frozen=True, slots=True, eq=False)
class ExampleScores:
    """Token scores of one example; all arrays have shape (T,), entry t belongs to token t.

    Where a token was not scored, and at token 0, which has no predecessor, losses are NaN and the
    greedy id is -1.
    """

    losses: NDArray[np.float64]  # -log p(x_t | x_<t), nats
    greedy_ids: NDArray[np.int64]  # the most probable token at the position of x_t
    greedy_losses: NDArray[np.float64]  # -log of its probability, nats
    matches: NDArray[np.bool_]  # whether x_t is the greedy choice

    @classmethod
    def of(
        cls, example: EncodedExample, context: TokenScores, continuation: TokenScores
    ) -> "ExampleScores":
        """Return the scores of an example that is a context and one of its continuations."""
        greedy_ids = np.concatenate([context.greedy_ids, continuation.greedy_ids])
        return cls(
            np.concatenate([context.losses, continuation.losses]),
            greedy_ids,
            np.concatenate([context.greedy_losses, continuation.greedy_losses]),
            greedy_ids == example.input_ids,
        )


def score_examples(
    model: PreTrainedModel,
    examples: Sequence[EncodedExample],
    budget: TokenBudget,
    *,
    answers_only: bool = False,
    perturbation: Perturbation | None = None,
) -> list[ExampleScores]:
    """Score ``examples`` by teacher forcing.

    Args:
        model: in evaluation mode.
        examples: of any lengths; the results have their order.
        budget: bounds a forward pass.
        answers_only: score only the tokens from the first one of the answer on; the head, which is
            expensive with a large vocabulary, is not applied elsewhere.
        perturbation: of embeddings or hidden states; item k is ``examples[k]``.
    """
    requests = [scoring_request(example, score_context=not answers_only) for example in examples]
    results = score_requests(model, requests, budget, perturbation)
    return [
        ExampleScores.of(example, result.context, result.continuations[0])
        for example, result in zip(examples, results, strict=True)
    ]


def scoring_request(example: EncodedExample, *, score_context: bool) -> ScoringRequest:
    """Return an example as a request: the continuation starts with its answer."""
    answer = np.flatnonzero(example.has_role("answer"))
    # Plain text has no answer: the continuation starts at its second token.
    first = int(answer[0]) if len(answer) else 1
    ids = example.input_ids.astype(np.int64)
    return ScoringRequest(ids[:first], (ids[first:],), score_context)
