"""Items after an edit of their text, ready to be judged beside the originals.

Shape letters: N = items of a split, K = those whose edit is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.encoded import EncodedExample
from ntpctp.data.example import Example
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit, Edited
from ntpctp.data.tokenize import encode, unknown_token_id
from ntpctp.measures.accuracy import Mode
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.split import EncodedSplit, short_key
from ntpctp.models.build import context_length


def task_of(context: EvaluationContext) -> Task:
    """Return the task of the examples, which defines how they may be edited."""
    if context.task is None:
        raise InputError(
            f"{context.source}: the task of its examples is unknown, so they cannot be edited; "
            "name the task"
        )
    return context.task


CAUSES = {
    "not_editable": "cannot be made",
    "trained_on": "make a training example of it",
    "too_long": "make it longer than the context",
}
"""Cause of leaving an edited item out -> words for the edits with this cause."""


@dataclass(frozen=True, eq=False)
class EditedItems:
    """The items of a split after one draw of an edit."""

    left_out: NDArray[np.str_]
    """(N,): why each item is left out, one of ``CAUSES``, or empty if it is kept."""
    split: EncodedSplit  # the kept items, edited and encoded, K of them
    num_unknown: NDArray[np.int64]
    """(K,): tokens of each kept item that stand for text outside the vocabulary."""
    unchanged: NDArray[np.bool_]
    """(K,): whether the tokens of each kept item are those before the edit: some tokenizers ignore
    white space or case."""

    def right(self, context: EvaluationContext, mode: Mode) -> NDArray[np.float64]:
        """Return which items are answered correctly after the edit: float64, (N,).

        NaN where an item is left out. One pass over the kept items, all judged by ``mode``.
        """
        if not len(self.split.encoded):
            return np.full(len(self.left_out), np.nan)
        judged = JudgedItems(self.split, context.tokenizer, mode)
        return self.of_all(judged.right(context.model, context.budget))

    def of_all(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return values of the kept items as values of all, NaN where left out: (K,) -> (N,)."""
        spread = np.full(len(self.left_out), np.nan)
        spread[self.left_out == ""] = values
        return spread


def explain_left_out(draws: Sequence[EditedItems]) -> str:
    """Return how many edits were left out for each cause, for the reason of a missing score."""
    left_out = np.concatenate([edited.left_out for edited in draws])
    counts = {words: int((left_out == cause).sum()) for cause, words in CAUSES.items()}
    by_cause = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    return f"of {len(left_out)} edits of an item {by_cause}"


def edit_items(
    context: EvaluationContext,
    items: EncodedSplit,
    edit: Edit,
    strength: float,
    stream: tuple[int, ...],
) -> EditedItems:
    """Edit and encode ``items``; leave out those that cannot be judged, and record the cause.

    An item is left out if the edit cannot be made or gives an answer outside the vocabulary, if the
    edited item equals an example of the training split, or if it is longer than the context, with
    its answer or with its longest candidate. The ``stream``, seed first, and an item's index decide
    how the item is edited, so that all arms, seeds, steps and strengths get the same draws.
    """
    trained_on = context.splits["train"].keys
    left_out = np.full(len(items.encoded), "", f"U{max(map(len, CAUSES))}")
    edited: dict[int, Edited] = {}
    for item, example in enumerate(items.examples):
        result = edit.apply(example, strength, generator(stream[0], "edits", *stream[1:], item))
        if result is None:
            left_out[item] = "not_editable"
        elif short_key(result.example) in trained_on:
            left_out[item] = "trained_on"
        else:
            edited[item] = result
    examples = [result.example for result in edited.values()]
    encoded = encode(examples, context.tokenizer, allow_unknown=True)
    candidates = _Candidates(context.tokenizer)
    # The most tokens of an item, the same for all compared models.
    lengths = context_length(context.model.config), context.max_length
    max_length = min((length for length in lengths if length is not None), default=2**62)
    kept: list[tuple[int, Example, EncodedExample]] = []
    for item, example, tokens in zip(edited, examples, encoded, strict=True):
        if not candidates.in_vocabulary(example, tokens):
            left_out[item] = "not_editable"
        elif candidates.longest(example, tokens) > max_length:
            left_out[item] = "too_long"
        else:
            kept.append((item, example, tokens))
    unknown = unknown_token_id(context.tokenizer)
    ids = [(items.encoded[item].input_ids, tokens.input_ids) for item, _, tokens in kept]
    return EditedItems(
        left_out,
        EncodedSplit([example for _, example, _ in kept], [tokens for _, _, tokens in kept]),
        np.array([int((after == unknown).sum()) for _, after in ids], np.int64),
        np.array([np.array_equal(before, after) for before, after in ids], bool),
    )


class _Candidates:
    """Token ids of candidates, each tokenized once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._unknown = unknown_token_id(tokenizer)
        self._ids = cache(lambda choice: tokenizer(choice, add_special_tokens=False).input_ids)

    def in_vocabulary(self, example: Example, encoded: EncodedExample) -> bool:
        """Whether every part of the right answer and of all candidates has a token."""
        if self._unknown is None:
            return True
        answer = encoded.input_ids[encoded.has_role("answer", "reasoning")]
        candidates = map(self._ids, example.choices)
        return self._unknown not in answer and all(self._unknown not in ids for ids in candidates)

    def longest(self, example: Example, encoded: EncodedExample) -> int:
        """Return the tokens of an item with its answer, or with its longest candidate if longer."""
        prompt = int((~encoded.has_role("answer")).sum())
        candidates = [len(self._ids(choice)) + 1 for choice in example.choices]  # end of sequence
        return max([len(encoded), *(prompt + length for length in candidates)])
