"""Robustness to how a question is put: accuracy while the input is edited, the answer kept."""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ntpctp.errors import lookup
from ntpctp.measures.curve import RobustnessCurve, Strengths, item_rows
from ntpctp.measures.edited import EditedItems, edit_items, task_of
from ntpctp.measures.judging import JudgedItems
from ntpctp.measures.measure import EncodedSplit, Measure, Score, Subject
from ntpctp.tasks.edits import Edit
from ntpctp.tasks.example import Task


class InputEdits(Measure):
    """Accuracy while the input is edited in ways that leave the right answer as it is.

    What can be done to an example is known by its task (``ntpctp tasks``; docs/data.md): another
    order of the premises, other names, premises that do not bear on the question, other wordings,
    typing errors, white space, case. How an item is edited depends on (seed, edit, draw, item)
    alone: all arms, seeds and steps meet the same edits, and a stronger edit contains the weaker.

    An item is right as in the measure ``robustness``: by its candidates, else by the greedy choice
    at every position of the answer, given the reference before it (where there is reasoning, it is
    the edited reference).

    Scores of each held-out split, for every edit:

    * ``accuracy_under_<edit>`` at each strength: share of items that are right, mean over draws.
    * ``worst_of_draws_under_<edit>``: share of items that are right in every draw.
    * ``flip_rate_under_<edit>``: share of answers, over items and draws, that are right where that
      to the original was wrong, or wrong where it was right.
    * ``area_<edit>``: area under the accuracy by the trapezoidal rule, divided by the largest
      strength; ``half_strength_<edit>``: the smallest strength at which half of the advantage over
      chance is gone; null where it is not reached.
    * ``unknown_words_under_<edit>``: share of items with a word that the vocabulary does not have
      (a closed vocabulary reads each misspelt word as one and the same unknown token);
      ``unchanged_under_<edit>``: share of items that the tokenizer reads as before (one that drops
      white space). Only where they are not 0 throughout.

    An item that cannot be edited so, or that is longer than the model's context afterwards, is left
    out at that strength; counts tell.
    """

    name: Literal["edits"] = "edits"
    edits: list[str] | None = Field(
        None, min_length=1, description="which of the task's edits; null: all that keep the answer"
    )
    strengths: dict[str, Strengths] = Field(
        default_factory=dict,
        description="edit -> its strengths, rising from 0, in place of the usual ones",
    )
    draws: int = Field(3, ge=1, description="of each edit, an item")
    max_items: int | None = Field(200, ge=1, description="the first items of a split; null: all")
    seed: int = Field(0, ge=0, description="of the edits")

    by_default: ClassVar[bool] = False

    def measure(self, subject: Subject) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        for split in subject.evaluation_splits:
            edits = self._edits(task_of(subject), split)
            items = subject.splits[split].head(self.max_items)
            if not edits:
                scores.append(_nothing_to_edit(split, len(items.rows)))
                continue
            curves = [self._curve(subject, split, items, *pair) for pair in edits.items()]
            rows += item_rows([curve for curve, _ in curves])
            for curve, further in curves:
                scores += [*curve.scores(), *further]
        return rows, scores

    def check(self, task: Task) -> None:  # noqa: D102
        for split in task.evaluation_splits:
            self._edits(task, split)

    def _edits(self, task: Task, split: str) -> dict[str, Edit]:
        known = {name: edit for name, edit in task.edits(split).items() if edit.keeps_answer}
        for name in [*(self.edits or ()), *self.strengths]:
            lookup(known, name, f"edit of the split {split}")
        return {name: edit for name, edit in known.items() if name in (self.edits or known)}

    def axis(self, score: str) -> str:  # noqa: D102
        return "strength of the edit, see its unit"

    def _curve(
        self, subject: Subject, split: str, items: EncodedSplit, name: str, edit: Edit
    ) -> tuple[RobustnessCurve, list[Score]]:
        """Return the curve of one edit, and the scores of what the tokenizer made of it."""
        strengths = [float(s) for s in self.strengths.get(name) or edit.strengths]
        judged = JudgedItems(items, subject.tokenizer)
        number = len(items.rows)
        right = np.empty((self.draws, number, len(strengths)))
        right[..., 0] = judged.right(subject.model, subject.budget)
        counts: dict[float, list[EditedItems]] = {}
        for draw in range(self.draws):
            stream = self.seed, zlib.crc32(name.encode()), draw
            for place, strength in enumerate(strengths[1:], 1):
                edited = edit_items(subject, items, edit, strength, stream)
                right[draw, :, place] = edited.right(subject, number)
                counts.setdefault(strength, []).append(edited)
        curve = RobustnessCurve(self.name, split, name, strengths, right, judged.chance, edit.unit)
        return curve, list(_readings(split, name, counts))


def _readings(split: str, name: str, counts: Mapping[float, list[EditedItems]]) -> Iterator[Score]:
    """Yield how many edited items have unknown words, and how many read as before."""
    unknown = {s: [edited.num_unknown > 0 for edited in many] for s, many in counts.items()}
    unchanged = {s: [edited.unchanged for edited in many] for s, many in counts.items()}
    for score, of_draws in (("unknown_words", unknown), ("unchanged", unchanged)):
        found = {s: np.concatenate(many) for s, many in of_draws.items()}
        if not any(values.any() for values in found.values()):
            continue
        for strength, values in found.items():
            yield Score(
                "edits",
                split,
                f"{score}_under_{name}",
                float(values.mean()) if len(values) else None,
                "share of edited items",
                len(values),
                higher_is_better=None,
                strength=strength,
                reason=None if len(values) else f"no item could be edited at strength {strength:g}",
            )


def _nothing_to_edit(split: str, count: int) -> Score:
    return Score(
        "edits",
        split,
        "accuracy_under_edits",
        None,
        "share of items",
        count,
        higher_is_better=True,
        reason="the task has no edit of such examples that keeps the answer",
    )
