"""Pairs of originals and their contrasting edits, judged by a model."""

import numpy as np

from ntpctp.data.tasks.edits.base import Edit
from ntpctp.measures.computation.edited import edit_items, explain_left_out, task_of
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.contrast import Contrast
from ntpctp.measures.measure import ItemResult, Measurement, Score
from ntpctp.measures.scoring import mean_score
from ntpctp.measures.split import EncodedSplit

_NO_EDIT = "the task has no edit that changes the answer of such examples"


def measure(options: Contrast, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``Contrast``."""
    rows: list[ItemResult] = []
    scores: list[Score] = []
    for split in context.evaluation_splits:
        items = context.splits[split].head(options.max_items)
        edits = [edit for edit in task_of(context).edits(split).values() if not edit.keeps_answer]
        if edits:
            results, no_pair = _results(options, context, split, items, edits[0])
        else:
            results, no_pair = [], _NO_EDIT
        rows += results
        scores += _scores(split, results, no_pair)
    return rows, scores


def _results(
    options: Contrast, context: EvaluationContext, split: str, items: EncodedSplit, edit: Edit
) -> tuple[list[ItemResult], str]:
    """Return a row for each item, and the reason for a split without pairs."""
    judged = JudgedItems(items, context.tokenizer)
    original = judged.right(context.model, context.budget)
    draws = [
        edit_items(context, items, edit, 1, (options.seed, draw)) for draw in range(options.draws)
    ]
    edited = np.stack([edited_items.right(context, judged.mode) for edited_items in draws])
    rows = []
    for item in range(len(judged)):
        known = edited[:, item][~np.isnan(edited[:, item])]
        has_pair = int(len(known) > 0)
        row: ItemResult = {"split": split, "item": item, "contrast_pairs": has_pair}
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
    return rows, f"no item has a pair: {explain_left_out(draws)}"


def _scores(split: str, rows: list[ItemResult], no_pair: str) -> list[Score]:
    scores = []
    none_right = "no original is answered rightly"
    any_pair = any(row["contrast_pairs"] for row in rows)
    for key, unit, reason in (
        ("contrast_pairs", "share of items", no_pair),
        ("contrast_consistency", "share of pairs", no_pair),
        ("contrast_original", "share of items", no_pair),
        ("contrast_edited", "share of items", no_pair),
        ("contrast_followed", "share of items", none_right if any_pair else no_pair),
    ):
        # The number of pairs depends on the data alone: neither direction is better.
        higher = None if key == "contrast_pairs" else True
        values = [row[key] for row in rows if key in row]
        if not values:
            scores.append(Score("contrast", split, key, None, unit, 0, higher, reason=reason))
            continue
        scores.append(
            mean_score(
                values,
                measure="contrast",
                split=split,
                score=key,
                unit=unit,
                higher_is_better=higher,
                # Models differ in which originals are right, so their items cannot be paired.
                rows_key=None if key == "contrast_followed" else key,
            )
        )
    return scores
