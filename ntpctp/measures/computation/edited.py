"""Items after an edit of their text, ready to be judged beside the originals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ntpctp._core.errors import InputError
from ntpctp._core.rng import generator
from ntpctp.data.example import Example
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit, Edited
from ntpctp.data.tokenize import EncodedExample, encode, unknown_token_id
from ntpctp.measures.computation.judging import JudgedItems, Mode
from ntpctp.measures.measure import EncodedSplit, EvaluationContext, short_key
from ntpctp.models.build import context_length


def task_of(subject: EvaluationContext) -> Task:
    """Return the task of a subject, which knows how its examples may be edited.

    Raises:
        InputError: if it is not known what task the examples are from.
    """
    if subject.task is None:
        raise InputError(
            f"{subject.source}: it is not known how its examples may be edited; name the task that "
            "they come from"
        )
    return subject.task


CAUSES = {
    "not_editable": "cannot be made",
    "trained_on": "make a training example of it",
    "too_long": "make it longer than the context",
}
"""Why an edited item is left out -> what is then said of its edit."""


@dataclass(frozen=True, eq=False)
class EditedItems:
    """Some items of a split after one draw of an edit.

    Attributes:
        left_out: of all items, why each is left out: one of ``CAUSES``, or empty if it is kept;
            text, shape (items,).
        split: those that are kept, edited and encoded, K of them.
        num_unknown: tokens of each that stand for text without a token, int64, shape (K,).
        unchanged: whether each reads as before the edit, bool, shape (K,): some tokenizers see
            neither white space nor case.
    """

    left_out: NDArray[np.str_]
    split: EncodedSplit
    num_unknown: NDArray[np.int64]
    unchanged: NDArray[np.bool_]

    def right(self, subject: EvaluationContext, mode: Mode) -> NDArray[np.float64]:
        """Return which items are answered rightly after the edit: float64, (items,).

        NaN where an item is left out. One pass over the others, all judged as ``mode`` says.
        """
        if not len(self.split.encoded):
            return np.full(len(self.left_out), np.nan)
        judged = JudgedItems(self.split, subject.tokenizer, mode)
        return self.of_all(judged.right(subject.model, subject.budget))

    def of_all(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return values of what is kept as those of all items, NaN: left out. (K,) -> (items,)."""
        found = np.full(len(self.left_out), np.nan)
        found[self.left_out == ""] = values
        return found


def why_left_out(edited: Sequence[EditedItems]) -> str:
    """Say, for the reason of a missing score, how many edits came to nothing, cause by cause."""
    left_out = np.concatenate([of_draw.left_out for of_draw in edited])
    counts = {words: int((left_out == cause).sum()) for cause, words in CAUSES.items()}
    told = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    return f"of {len(left_out)} edits of an item {told}"


def edit_items(
    subject: EvaluationContext,
    items: EncodedSplit,
    edit: Edit,
    strength: float,
    stream: tuple[int, ...],
) -> EditedItems:
    """Edit and encode ``items``; leave out what would be no question to the model, and say why.

    That is what cannot be edited so (or has an answer for which there is no token afterwards), what
    is an example of the training split afterwards, and what is longer than the context, with its
    answer or with its longest candidate.

    Args:
        subject: gives tokenizer, context and training split.
        items: the originals.
        edit: what is done to them.
        strength: how much.
        stream: seed first; with an item's place in ``items`` it decides how that item is edited, so
            that all arms, seeds, steps and strengths meet the same draws.
    """
    trained_on = subject.splits["train"].keys
    left_out = np.full(len(items.encoded), "", f"U{max(map(len, CAUSES))}")
    edited: dict[int, Edited] = {}
    for place, example in enumerate(items.examples):
        found = edit.apply(example, strength, generator(stream[0], "edits", *stream[1:], place))
        if found is None:
            left_out[place] = "not_editable"
        elif short_key(found.example) in trained_on:
            left_out[place] = "trained_on"
        else:
            edited[place] = found
    rows = encode([e.example for e in edited.values()], subject.tokenizer, allow_unknown=True)
    candidates = _Candidates(subject.tokenizer)
    context = _context(subject)
    kept: list[tuple[int, Example, EncodedExample]] = []
    for (place, found), row in zip(edited.items(), rows, strict=True):
        if not candidates.can_be_said(found.example, row):
            left_out[place] = "not_editable"
        elif candidates.longest(found.example, row) > context:
            left_out[place] = "too_long"
        else:
            kept.append((place, found.example, row))
    unknown = unknown_token_id(subject.tokenizer)
    return EditedItems(
        left_out,
        EncodedSplit([example for _, example, _ in kept], [row for _, _, row in kept]),
        np.array([int((row.input_ids == unknown).sum()) for _, _, row in kept], np.int64),
        np.array(
            [
                np.array_equal(row.input_ids, items.encoded[place].input_ids)
                for place, _, row in kept
            ],
            bool,
        ),
    )


def _context(subject: EvaluationContext) -> int:
    """Return the most tokens of an item: what fits must not differ between compared models."""
    own = context_length(subject.model.config)
    return min((c for c in (own, subject.context) if c is not None), default=2**62)


class _Candidates:
    """Candidates as tokens, each cut once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer, self._unknown = tokenizer, unknown_token_id(tokenizer)
        self._known: dict[str, list[int]] = {}

    def can_be_said(self, example: Example, row: EncodedExample) -> bool:
        """Whether every part of the right answer and of all candidates has a token."""
        if self._unknown is None:
            return True
        answer = row.input_ids[row.has_role("answer", "reasoning")]
        parts = map(self._ids, example.choices)
        return self._unknown not in answer and all(self._unknown not in ids for ids in parts)

    def longest(self, example: Example, row: EncodedExample) -> int:
        """Return the tokens of an item with its answer, or with its longest candidate if longer."""
        given = int((~row.has_role("answer")).sum())
        candidates = [len(self._ids(choice)) + 1 for choice in example.choices]  # and its end
        return max([len(row), *(given + length for length in candidates)])

    def _ids(self, choice: str) -> list[int]:
        if choice not in self._known:
            self._known[choice] = self._tokenizer(choice, add_special_tokens=False).input_ids
        return self._known[choice]
