"""Contrast sets: does the model follow when a small change of the premises changes the answer?

Source: "Evaluating Models' Local Decision Boundaries via Contrast Sets" (Gardner et al. 2020, arXiv
2004.02709).
"""

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ntpctp.data.tasks.edits.base import Edit
from ntpctp.measures.computation.edited import edit_items, task_of, why_left_out
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.measure import EncodedSplit, EvaluationContext, Measure, Score, mean_score

_NO_EDIT = "the task has no edit that changes the answer of such examples"


class Contrast(Measure):
    """Accuracy on pairs of an item and its smallest edit that has another right answer.

    The edit and its answer are the task's own (docs/data.md); the same ones for all arms, seeds and
    steps. An item is right as in the measure ``robustness``. A model that answers by the look of a
    question is right on one item of a pair at most.

    Scores of each held-out split, over the items that can be edited so (one that is an example of
    the training split afterwards, or longer than the context, is left out as in ``edits``):

    * ``contrast_pairs``: share of all items that can.
    * ``contrast_original``, ``contrast_edited``: share of items that are right before and after the
      edit, mean over draws.
    * ``contrast_consistency``: share of pairs both of whose items are right.
    * ``contrast_followed``: share of edited items that are right among those whose original is.
    """

    name: Literal["contrast"] = "contrast"
    draws: int = Field(1, ge=1, description="of the edit, an item")
    max_items: int | None = Field(200, ge=1, description="the first items of a split; null: all")
    seed: int = Field(0, ge=0, description="of the edits")

    version: ClassVar[int] = 2
    by_default: ClassVar[bool] = False
    by_context: ClassVar[bool] = True

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        for split in subject.evaluation_splits:
            items = subject.splits[split].head(self.max_items)
            edits = [e for e in task_of(subject).edits(split).values() if not e.keeps_answer]
            if edits:
                of_split, no_pair = self._rows(subject, split, items, edits[0])
            else:
                of_split, no_pair = [], _NO_EDIT
            rows += of_split
            scores += _scores(split, of_split, no_pair)
        return rows, scores

    def _rows(
        self, subject: EvaluationContext, split: str, items: EncodedSplit, edit: Edit
    ) -> tuple[list[dict[str, Any]], str]:
        """Return the rows, and why there would be no pair."""
        judged = JudgedItems(items, subject.tokenizer)
        original = judged.right(subject.model, subject.budget)
        made = [
            edit_items(subject, items, edit, 1, (self.seed, draw)) for draw in range(self.draws)
        ]
        edited = np.stack([of_draw.right(subject, judged.mode) for of_draw in made])
        rows = []
        for item in range(len(judged)):
            known = edited[:, item][~np.isnan(edited[:, item])]
            has_pair = int(len(known) > 0)
            row: dict[str, Any] = {"split": split, "item": item, "contrast_pairs": has_pair}
            if has_pair:
                right, after = int(original[item]), float(known.mean())
                row |= {
                    "contrast_original": right,
                    "contrast_edited": after,
                    "contrast_consistency": right * after,
                }
                if right:
                    row["contrast_followed"] = after
            rows.append(row)
        return rows, f"no item has a pair: {why_left_out(made)}"


def _scores(split: str, rows: list[dict[str, Any]], no_pair: str) -> list[Score]:
    scores = []
    none_right = "no original is answered rightly"
    any_pair = any(row["contrast_pairs"] for row in rows)
    for key, unit, missing in (
        ("contrast_pairs", "share of items", no_pair),
        ("contrast_consistency", "share of pairs", no_pair),
        ("contrast_original", "share of items", no_pair),
        ("contrast_edited", "share of items", no_pair),
        ("contrast_followed", "share of items", none_right if any_pair else no_pair),
    ):
        # How many pairs there are is the same for all models, and good or bad of none.
        higher = None if key == "contrast_pairs" else True
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
                    higher_is_better=higher,
                    rows_key=paired,
                )
            )
        else:
            scores.append(
                Score(
                    "contrast",
                    split,
                    key,
                    None,
                    unit,
                    0,
                    higher_is_better=higher,
                    reason=missing,
                )
            )
    return scores
