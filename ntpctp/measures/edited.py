"""Items after an edit of their text, ready to be judged beside the originals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from ntpctp.errors import InputError
from ntpctp.measures.judging import JudgedItems
from ntpctp.measures.measure import EncodedSplit, Subject
from ntpctp.models import context_length
from ntpctp.randomness import generator
from ntpctp.tasks.edits import Edit, Edited
from ntpctp.tasks.example import Task
from ntpctp.tokens import Row, encode, unknown_token_id


def task_of(subject: Subject) -> Task:
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


@dataclass(frozen=True, eq=False)
class EditedItems:
    """Some items of a split after one draw of an edit.

    Attributes:
        places: which items could be edited and read, int64, shape (edited,).
        split: these, edited and encoded.
        num_unknown: tokens of each that stand for text without a token, int64, shape (edited,).
        unchanged: whether each reads as before the edit, bool, shape (edited,): some tokenizers
            see neither white space nor case.
    """

    places: NDArray[np.int64]
    split: EncodedSplit
    num_unknown: NDArray[np.int64]
    unchanged: NDArray[np.bool_]

    def right(self, subject: Subject, number: int) -> NDArray[np.float64]:
        """Return which of ``number`` items are answered rightly after the edit: float64, (items,).

        NaN where an item could not be edited or read. One pass over the others.
        """
        found = np.full(number, np.nan)
        if len(self.places):
            judged = JudgedItems(self.split, subject.tokenizer)
            found[self.places] = judged.right(subject.model, subject.budget)
        return found


def edit_items(
    subject: Subject, items: EncodedSplit, edit: Edit, strength: float, stream: tuple[int, ...]
) -> EditedItems:
    """Edit and encode ``items``; leave out what cannot be edited or does not fit the model.

    Args:
        subject: gives tokenizer and context.
        items: the originals.
        edit: what is done to them.
        strength: how much.
        stream: seed first; with an item's place in ``items`` it decides how that item is edited, so
            that all arms, seeds, steps and strengths meet the same draws.
    """
    context = context_length(subject.model.config) or 2**62
    unknown = unknown_token_id(subject.tokenizer)
    drawn = [
        edit.apply(example, strength, generator(stream[0], "edits", *stream[1:], place))
        for place, example in enumerate(items.examples)
    ]
    edited = [(place, found) for place, found in enumerate(drawn) if found is not None]
    rows = encode([found.example for _, found in edited], subject.tokenizer, allow_unknown=True)
    sayable = _Sayable(subject.tokenizer)
    kept = [
        (place, found.example, row)
        for (place, found), row in zip(edited, rows, strict=True)
        if sayable(found, row) and len(row) <= context
    ]
    return EditedItems(
        np.array([place for place, _, _ in kept], np.int64),
        EncodedSplit([example for _, example, _ in kept], [row for _, _, row in kept]),
        np.array([int((row.input_ids == unknown).sum()) for _, _, row in kept], np.int64),
        np.array(
            [np.array_equal(row.input_ids, items.rows[place].input_ids) for place, _, row in kept],
            bool,
        ),
    )


class _Sayable:
    """Whether a model could say the right answer and all candidates: every part has a token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer, self._unknown = tokenizer, unknown_token_id(tokenizer)
        self._known: dict[str, bool] = {}

    def __call__(self, edited: Edited, row: Row) -> bool:
        if self._unknown is None:
            return True
        answer = row.input_ids[row.has_role("answer", "reasoning")]
        return self._unknown not in answer and all(map(self._has_tokens, edited.example.choices))

    def _has_tokens(self, choice: str) -> bool:
        if choice not in self._known:
            ids = self._tokenizer(choice, add_special_tokens=False).input_ids
            self._known[choice] = self._unknown not in ids
        return self._known[choice]
