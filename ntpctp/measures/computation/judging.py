"""Is an answer right? By what a task is judged, and many times over on the same items."""

from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core.errors import InputError, NotFiniteError
from ntpctp.data.example import Example, Segment
from ntpctp.data.tokenize import encode
from ntpctp.measures.measure import EncodedSplit
from ntpctp.measures.metrics import choice_correct
from ntpctp.models.inference import (
    Perturbation,
    ScoringRequest,
    TokenBudget,
    log_likelihoods,
    score_examples,
)

Mode = Literal["choices", "greedy", "reasoning", "teacher_forced"]
"""``choices``: the likeliest candidate. ``greedy``: the answer as decoded. ``reasoning``: the one
behind the model's own reasoning. ``teacher_forced``: the greedy choice at every position of the
answer, given the reference before it."""


def default_mode(example: Example) -> Mode:
    """Return how a task with examples like this one is judged.

    By the model's own reasoning where there is some, else by candidates where there are some, else
    by the decoded answer.
    """
    if example.text("reasoning"):
        return "reasoning"
    return "choices" if example.choices else "greedy"


class JudgedItems:
    """Items of a split, ready to be answered again and again by a model that is disturbed.

    ``mode`` is ``choices`` where all items have candidates. Otherwise an answer would have to be
    decoded, and is judged by teacher forcing: without a disturbance that finds the same greedy
    answers right, at the cost of one pass. Where there is reasoning, it is the reference's.

    Args:
        split: at least one item that has an answer.
        tokenizer: of the model.
        mode: ``choices`` or ``teacher_forced``; None: what ``split`` allows. Edited items take that
            of their originals.

    Raises:
        InputError: if there is no item.
    """

    def __init__(
        self, split: EncodedSplit, tokenizer: PreTrainedTokenizerBase, mode: Mode | None = None
    ):
        if not len(split.encoded):
            raise InputError("a split has no item; there is nothing to judge")
        self._split, self._tokenizer = split, tokenizer
        all_have = all(example.choices for example in split.examples)
        self.mode: Mode = mode or ("choices" if all_have else "teacher_forced")

    def __len__(self) -> int:
        return len(self._split.encoded)

    @property
    def chance(self) -> NDArray[np.float64]:
        """How probable it is that guessing among the candidates is right, else 0: (items,)."""
        if self.mode != "choices":
            return np.zeros(len(self))
        return np.array([1 / len(example.choices) for example in self._split.examples])

    def right(
        self,
        model: PreTrainedModel,
        budget: TokenBudget,
        disturbance: Perturbation | None = None,
    ) -> NDArray[np.bool_]:
        """Return which items ``model`` answers rightly: bool, shape (items,). One pass over them.

        A tie between candidates counts as wrong.

        Raises:
            NotFiniteError: if a number of the model is: no answer is right or wrong then.
        """
        if self.mode != "choices":
            read = score_examples(
                model, self._split.encoded, budget, answers_only=True, perturbation=disturbance
            )
            right = []
            for row, seen in zip(self._split.encoded, read, strict=True):
                inside = row.has_role("answer")
                check_finite(seen.losses[inside])
                right.append(seen.matches[inside].all())
            return np.array(right)
        found = log_likelihoods(model, self._choices, budget, disturbance)
        for of_item in found:
            check_finite(of_item)
        return np.array(
            [
                choice_correct(of_item, example.choices.index(example.answer))
                for of_item, example in zip(found, self._split.examples, strict=True)
            ]
        )

    @cached_property
    def _choices(self) -> list[ScoringRequest]:
        return [text for text in choices_of(self._split, self._tokenizer) if text]


def check_finite(values: NDArray[np.float64]) -> None:
    """Look at what a model says of an item, before anything is made of it.

    Raises:
        NotFiniteError: if a number is NaN or infinite: no answer is right or wrong then.
    """
    if not np.isfinite(values).all():
        raise NotFiniteError(
            "the model's probabilities are not finite: its weights are broken, or it is disturbed "
            "so strongly that numbers overflow; leave out the largest strengths"
        )


def choices_of(
    split: EncodedSplit, tokenizer: PreTrainedTokenizerBase
) -> list[ScoringRequest | None]:
    """Return each item's candidates behind what is given; None for an item without any.

    What is given is the row's own prompt (which may have been trimmed) and, if any, the reference
    reasoning. A candidate is its tokens and the end of sequence.

    Raises:
        InputError: if the tokenizer has no token for a part of a candidate.
    """
    if not any(example.choices for example in split.examples):
        return [None] * len(split.examples)
    first = {choice: example for example in split.examples for choice in example.choices}
    # Behind a text that has tokens if the choice has: what the prompts are made of is no matter.
    rows = encode(
        [
            Example((Segment("prompt", choice), Segment("answer", choice)), source=example.source)
            for choice, example in first.items()
        ],
        tokenizer,
    )
    candidates = {
        choice: row.input_ids[row.has_role("answer")].astype(np.int64)
        for choice, row in zip(first, rows, strict=True)
    }
    return [
        ScoringRequest(
            row.input_ids[~row.has_role("answer")].astype(np.int64),
            tuple(candidates[choice] for choice in example.choices),
        )
        if example.choices
        else None
        for example, row in zip(split.examples, split.encoded, strict=True)
    ]
