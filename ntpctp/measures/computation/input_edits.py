"""Curves of accuracy under edits, and what became of the edited items.

Shape letters: R = draws of an edit, N = items.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntpctp.data.tasks.edits.base import Edit
from ntpctp.measures.computation.curve import RobustnessCurve, item_results
from ntpctp.measures.computation.edited import EditedItems, edit_items, explain_left_out, task_of
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.input_edits import InputEdits
from ntpctp.measures.measure import Measurement, Score, joined
from ntpctp.measures.scoring import mean_score


def measure(options: InputEdits, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``InputEdits``."""
    return joined(_of_split(options, context, split) for split in context.evaluation_splits)


def _of_split(options: InputEdits, context: EvaluationContext, split: str) -> Measurement:
    edits = options.edits_of(task_of(context), split)
    if not edits:
        count = len(context.splits[split].head(options.max_items).encoded)
        reason = "the task has no edit of such examples that keeps the answer"
        of = "edits", split, "accuracy_under_edits"
        return [], [Score(*of, None, "share of items", count, True, reason=reason)]
    curves = [_curve(options, context, split, name, edit) for name, edit in edits.items()]
    rows = item_results([curve for curve, _ in curves])
    scores: list[Score] = []
    for curve, draws in curves:
        scores += curve.scores()
        for key, values, score in _shares(split, curve.kind, draws):
            for row, value in zip(rows, values, strict=True):
                if not np.isnan(value):
                    row[key] = float(value)
            scores.append(score)
    return rows, scores


def _curve(
    options: InputEdits, context: EvaluationContext, split: str, name: str, edit: Edit
) -> tuple[RobustnessCurve, dict[float, list[EditedItems]]]:
    """Return the curve of one edit, and the edited items of each strength and draw."""
    strengths = [float(s) for s in options.strengths.get(name) or edit.strengths]
    items = context.splits[split].head(options.max_items)
    judged = JudgedItems(items, context.tokenizer)
    right = np.empty((options.draws, len(judged), len(strengths)))
    right[..., 0] = judged.right(context.model, context.budget)
    draws: dict[float, list[EditedItems]] = {strength: [] for strength in strengths[1:]}
    for draw in range(options.draws):
        stream = options.seed, zlib.crc32(name.encode()), draw
        for k, strength in enumerate(strengths[1:], 1):
            edited = edit_items(context, items, edit, strength, stream)
            right[draw, :, k] = edited.right(context, judged.mode)
            draws[strength].append(edited)
    causes: dict[float | None, str] = {s: explain_left_out(draws[s]) for s in draws}
    causes[None] = explain_left_out([edited for same in draws.values() for edited in same])
    of = options.name, split, name, strengths
    return RobustnessCurve(*of, right, judged.chance, edit.unit, causes=causes), draws


_OF_ALL: dict[str, Callable[[EditedItems], NDArray[Any]]] = {
    "left_out": lambda edited: edited.left_out != "",
    "too_long": lambda edited: edited.left_out == "too_long",
    "trained_on": lambda edited: edited.left_out == "trained_on",
}
_OF_KEPT: dict[str, Callable[[EditedItems], NDArray[Any]]] = {
    "unknown_words": lambda edited: edited.of_all(edited.num_unknown > 0),
    "unchanged": lambda edited: edited.of_all(edited.unchanged),
}


def _shares(
    split: str, edit: str, draws: Mapping[float, list[EditedItems]]
) -> Iterator[tuple[str, NDArray[np.float64], Score]]:
    """Yield how often something happened to the items, unless it is 0 at all strengths.

    Each as the field of the rows, its value for each item (the share of its draws, (N,), NaN where
    not applicable), and the mean over the items as a score.
    """
    for kind, values_of in (_OF_ALL | _OF_KEPT).items():
        values = {s: np.stack([values_of(e) for e in same]) for s, same in draws.items()}
        if not any(np.nansum(at_strength) for at_strength in values.values()):
            continue
        name = f"{kind}_under_{edit}"
        unit = "share of items" if kind in _OF_ALL else "share of edited items"
        for strength, at_strength in values.items():
            means = _mean_over_draws(at_strength)
            known = means[~np.isnan(means)].tolist()
            why = explain_left_out(draws[strength])
            fields: dict[str, Any] = {
                "no_value": f"no item could be edited at strength {strength:g}: {why}",
                "higher_is_better": None,
                "strength": strength,
                "rows_key": f"{name}_{strength:.12g}",
            }
            score = mean_score(known, "edits", split, name, unit, **fields)
            yield fields["rows_key"], means, score


def _mean_over_draws(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return each item's mean over its draws that are not NaN, else NaN: (R, N) -> (N,)."""
    known = (~np.isnan(values)).sum(axis=0)
    mean = np.full(known.shape, np.nan)
    np.divide(np.nansum(values, axis=0), known, out=mean, where=known > 0)
    return mean
