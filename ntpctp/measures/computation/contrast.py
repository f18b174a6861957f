"""Pairs of originals and their contrasting edits, judged by a model."""

from typing import Any

import numpy as np

from ntpctp.data.tasks.edits.base import Edit
from ntpctp.measures.computation.edited import edit_items, explain_left_out, task_of
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.contrast import Contrast
from ntpctp.measures.measure import ItemResult, Measurement, Score, joined
from ntpctp.measures.scoring import mean_score
from ntpctp.measures.split import EncodedSplit


def measure(options: Contrast, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``Contrast``."""
    return joined(_of_split(options, context, split) for split in context.evaluation_splits)


def _of_split(options: Contrast, context: EvaluationContext, split: str) -> Measurement:
    items = context.splits[split].head(options.max_items)
    edits = [edit for edit in task_of(context).edits(split).values() if not edit.keeps_answer]
    rows: list[ItemResult] = []
    no_pair = "the task has no edit that changes the answer of such examples"
    if edits:
        rows, no_pair = _results(options, context, split, items, edits[0])
    return rows, _scores(split, rows, no_pair)


def _results(
    options: Contrast, context: EvaluationContext, split: str, items: EncodedSplit, edit: Edit
) -> tuple[list[ItemResult], str]:
    """Return a row for each item, and the reason for a split without pairs."""
    judged = JudgedItems(items, context.tokenizer)
    original = judged.right(context.model, context.budget)
    streams = [(options.seed, draw) for draw in range(options.draws)]
    draws = [edit_items(context, items, edit, 1, stream) for stream in streams]
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
        fields: dict[str, Any] = {
            # The number of pairs depends on the data alone: neither direction is better.
            "higher_is_better": None if key == "contrast_pairs" else True,
            # Models differ in which originals are right, so their items cannot be paired.
            "rows_key": None if key == "contrast_followed" else key,
        }
        values = [row[key] for row in rows if key in row]
        scores.append(mean_score(values, "contrast", split, key, unit, no_value=reason, **fields))
    return scores
