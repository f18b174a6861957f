"""Contrast sets: does the model follow when a small change of the premises changes the answer?

Source: "Evaluating Models' Local Decision Boundaries via Contrast Sets" (Gardner et al. 2020, arXiv
2004.02709).
"""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntpctp.measures.edited import edit_items, task_of
from ntpctp.measures.judging import JudgedItems
from ntpctp.measures.measure import EncodedSplit, Measure, Score, Subject, mean_score
from ntpctp.tasks.edits import Edit

_NO_EDIT = "the task has no edit that changes the answer of such examples"


class Contrast(Measure):
    """Accuracy on pairs of an item and its smallest edit that has another right answer.

    The edit and its answer are the task's own (docs/data.md); the same ones for all arms, seeds and
    steps. An item is right as in the measure ``robustness``. A model that answers by the look of a
    question is right on one item of a pair at most.

    Scores of each held-out split, over the items that can be edited so:

    * ``contrast_original``, ``contrast_edited``: share of items that are right before and after the
      edit, mean over draws.
    * ``contrast_consistency``: share of pairs both of whose items are right.
    * ``contrast_followed``: share of edited items that are right among those whose original is.
    """

    name: Literal["contrast"] = "contrast"
    draws: int = Field(1, ge=1, description="of the edit, an item")
    max_items: int | None = Field(200, ge=1, description="the first items of a split; null: all")
    seed: int = Field(0, ge=0, description="of the edits")

    by_default: ClassVar[bool] = False

    def measure(self, subject: Subject) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        for split in subject.evaluation_splits:
            items = subject.splits[split].head(self.max_items)
            edits = [e for e in task_of(subject).edits(split).values() if not e.keeps_answer]
            of_split = self._rows(subject, split, items, edits[0]) if edits else []
            rows += of_split
            scores += _scores(split, of_split)
        return rows, scores

    def _rows(
        self, subject: Subject, split: str, items: EncodedSplit, edit: Edit
    ) -> list[dict[str, Any]]:
        number = len(items.rows)
        original = JudgedItems(items, subject.tokenizer).right(subject.model, subject.budget)
        edited: NDArray[np.float64] = np.stack(
            [
                edit_items(subject, items, edit, 1, (self.seed, draw)).right(subject, number)
                for draw in range(self.draws)
            ]
        )
        rows = []
        for item in range(number):
            known = edited[:, item][~np.isnan(edited[:, item])]
            row: dict[str, Any] = {"split": split, "item": item}
            if len(known):
                right, after = int(original[item]), float(known.mean())
                row |= {
                    "contrast_original": right,
                    "contrast_edited": after,
                    "contrast_consistency": right * after,
                }
                if right:
                    row["contrast_followed"] = after
            rows.append(row)
        return rows


def _scores(split: str, rows: list[dict[str, Any]]) -> list[Score]:
    scores = []
    for key, unit, missing in (
        ("contrast_consistency", "share of pairs", _NO_EDIT),
        ("contrast_original", "share of items", _NO_EDIT),
        ("contrast_edited", "share of items", _NO_EDIT),
        ("contrast_followed", "share of items", "no original is answered rightly"),
    ):
        values = [row[key] for row in rows if key in row]
        if values:
            # Which originals are right differs between models, so this is no mean over one set.
            paired = None if key == "contrast_followed" else key
            scores.append(
                mean_score(
                    values,
                    measure="contrast",
                    split=split,
                    score=key,
                    unit=unit,
                    higher_is_better=True,
                    rows_key=paired,
                )
            )
        else:
            editable = any("contrast_original" in row for row in rows)
            scores.append(
                Score(
                    "contrast",
                    split,
                    key,
                    None,
                    unit,
                    0,
                    higher_is_better=True,
                    reason=missing if editable else _NO_EDIT,
                )
            )
    return scores
