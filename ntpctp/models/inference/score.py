"""One forward pass over whole examples: the loss and the greedy choice at every position.

Greedy decoding answers with exactly the reference if and only if, at every position of the
reference, the greedy choice given the reference so far is the reference's next token. One pass
therefore judges an answer that would take as many passes as it has tokens to decode.

Shape letter: T = tokens of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ntpctp.data.encoded import EncodedExample
from ntpctp.models.inference.batches import TokenBudget
from ntpctp.models.inference.forward import ScoringRequest, ScoringResult, TokenScores
from ntpctp.models.inference.perturbation import Perturbation
from ntpctp.models.inference.requests import score_requests


@dataclass(frozen=True, slots=True, eq=False)
class ExampleScores:
    """How a model reads one row; all arrays have shape (T,), entry t belongs to token t.

    Where nothing was asked for, and at token 0, which has no predecessor, losses are NaN and the
    greedy id is -1.
    """

    losses: NDArray[np.float64]  # -log p(x_t | x_<t), nats
    greedy_ids: NDArray[np.int64]  # the most probable token in place of x_t
    greedy_losses: NDArray[np.float64]  # -log of its probability, nats
    matches: NDArray[np.bool_]  # whether x_t is the greedy choice

    @classmethod
    def of(
        cls, row: EncodedExample, context: TokenScores, continuation: TokenScores
    ) -> "ExampleScores":
        """Return a row whose tokens are those of a context and one of its continuations."""
        greedy_ids = np.concatenate([context.greedy_ids, continuation.greedy_ids])
        return cls(
            np.concatenate([context.losses, continuation.losses]),
            greedy_ids,
            np.concatenate([context.greedy_losses, continuation.greedy_losses]),
            greedy_ids == row.input_ids,
        )


def score_examples(
    model: PreTrainedModel,
    rows: Sequence[EncodedExample],
    budget: TokenBudget,
    *,
    answers_only: bool = False,
    perturbation: Perturbation | None = None,
) -> list[ExampleScores]:
    """Read ``rows`` by teacher forcing.

    Args:
        model: in evaluation mode.
        rows: in any order and of any lengths; the result has their order.
        budget: bounds a forward pass.
        answers_only: ask only for what comes from the first token of the answer on; the head, which
            is dear where the vocabulary is large, is not applied elsewhere.
        perturbation: of what the model reads or computes; item k is ``rows[k]``.
    """
    texts = [scoring_request(row, whole=not answers_only) for row in rows]
    found: list[ScoringResult] = score_requests(model, texts, budget, perturbation)
    return [
        ExampleScores.of(row, read.context, read.continuations[0])
        for row, read in zip(rows, found, strict=True)
    ]


def scoring_request(row: EncodedExample, *, whole: bool) -> ScoringRequest:
    """Return a row as what is given and, from the first token of the answer on, what follows."""
    answer = np.flatnonzero(row.has_role("answer"))
    # Plain text has no answer: all behind its first token follows.
    first = int(answer[0]) if len(answer) else 1
    ids = row.input_ids.astype(np.int64)
    return ScoringRequest(ids[:first], (ids[first:],), whole)
