"""Is an answer right? Judging the same items many times, by their candidates or teacher-forced."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ntpctp._core.errors import InputError, NotFiniteError
from ntpctp.data.example import Example, Segment
from ntpctp.data.tokenize import encode
from ntpctp.measures.accuracy import Mode
from ntpctp.measures.metrics import choice_correct
from ntpctp.measures.split import EncodedSplit
from ntpctp.models.inference import (
    Perturbation,
    ScoringRequest,
    TokenBudget,
    log_likelihoods,
    score_examples,
)


def default_mode(example: Example) -> Mode:
    """Return the primary mode of a task with examples like this one, see ``Accuracy``."""
    if example.text("reasoning"):
        return "reasoning"
    return "choices" if example.choices else "greedy"


class JudgedItems:
    """Items of a split, to be judged repeatedly under perturbations of a model.

    ``mode`` is ``choices`` where all items have candidates. Otherwise answers are judged by teacher
    forcing, one pass instead of decoding: without a perturbation the same greedy answers are right.
    Where there is reasoning, it is that of the reference. ``split`` holds at least one item, each
    with an answer. Edited items take the ``mode`` of their originals; None: ``choices`` if all
    items have candidates, else ``teacher_forced``.
    """

    def __init__(
        self, split: EncodedSplit, tokenizer: PreTrainedTokenizerBase, mode: Mode | None = None
    ):
        if not len(split.encoded):
            raise InputError("the split has no items to judge")
        self._split, self._tokenizer = split, tokenizer
        with_choices = all(example.choices for example in split.examples)
        self.mode: Mode = mode or ("choices" if with_choices else "teacher_forced")

    def __len__(self) -> int:
        return len(self._split.encoded)

    @property
    def chance(self) -> NDArray[np.float64]:
        """Probability that a guess among the candidates is right, else 0: (items,)."""
        if self.mode != "choices":
            return np.zeros(len(self))
        return np.array([1 / len(example.choices) for example in self._split.examples])

    def right(
        self, model: PreTrainedModel, budget: TokenBudget, perturbation: Perturbation | None = None
    ) -> NDArray[np.bool_]:
        """Return which items ``model`` answers correctly: bool, shape (items,). One pass over them.

        A tie between candidates counts as wrong.
        """
        right: list[np.bool_ | bool] = []
        if self.mode == "choices":
            likelihoods = log_likelihoods(model, self._choices, budget, perturbation)
            for of_item, example in zip(likelihoods, self._split.examples, strict=True):
                check_finite(of_item)
                right.append(choice_correct(of_item, example.choices.index(example.answer)))
            return np.array(right)
        read = score_examples(
            model, self._split.encoded, budget, answers_only=True, perturbation=perturbation
        )
        for encoded, tokens in zip(self._split.encoded, read, strict=True):
            answer = encoded.has_role("answer")
            check_finite(tokens.losses[answer])
            right.append(tokens.matches[answer].all())
        return np.array(right)

    @cached_property
    def _choices(self) -> list[ScoringRequest]:
        return [text for text in choices_of(self._split, self._tokenizer) if text]


def check_finite(values: NDArray[np.float64]) -> None:
    """Check the log-likelihoods or losses of an item before it is judged.

    NaN or infinity raises ``NotFiniteError``: the answer is then neither right nor wrong.
    """
    if not np.isfinite(values).all():
        raise NotFiniteError(
            "the model's probabilities are not finite: its weights are broken, or it is disturbed "
            "so strongly that numbers overflow; leave out the largest strengths"
        )


def choices_of(
    split: EncodedSplit, tokenizer: PreTrainedTokenizerBase
) -> list[ScoringRequest | None]:
    """Return each item's prompt with its candidates; None for an item without candidates.

    The prompt is that of the encoded example (it may have been trimmed), with the reference
    reasoning, if any. A candidate is its tokens and the end of sequence.
    """
    if not any(example.choices for example in split.examples):
        return [None] * len(split.examples)
    first = {choice: example for example in split.examples for choice in example.choices}
    # Any prompt will do that is in the vocabulary if the choice is: here the choice itself.
    bare = [
        Example((Segment("prompt", choice), Segment("answer", choice)), source=example.source)
        for choice, example in first.items()
    ]
    candidates = {
        choice: tokens.input_ids[tokens.has_role("answer")].astype(np.int64)
        for choice, tokens in zip(first, encode(bare, tokenizer), strict=True)
    }
    return [
        ScoringRequest(
            tokens.input_ids[~tokens.has_role("answer")].astype(np.int64),
            tuple(candidates[choice] for choice in example.choices),
        )
        if example.choices
        else None
        for example, tokens in zip(split.examples, split.encoded, strict=True)
    ]
