"""Curves of accuracy under edits, and what became of the edited items.

Shape letters: R = draws of an edit, N = items.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntpctp.data.tasks.edits.base import Edit
from ntpctp.measures.computation.curve import RobustnessCurve, item_results
from ntpctp.measures.computation.edited import EditedItems, edit_items, explain_left_out, task_of
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.input_edits import InputEdits
from ntpctp.measures.measure import ItemResult, Measurement, Score
from ntpctp.measures.scoring import mean_score
from ntpctp.measures.split import EncodedSplit


def measure(options: InputEdits, context: EvaluationContext) -> Measurement:
    """Return a row for each item and the scores of ``InputEdits``."""
    rows: list[ItemResult] = []
    scores: list[Score] = []
    for split in context.evaluation_splits:
        edits = options.edits_of(task_of(context), split)
        items = context.splits[split].head(options.max_items)
        if not edits:
            scores.append(_nothing_to_edit(split, len(items.encoded)))
            continue
        curves = [
            _curve(options, context, split, items, name, edit) for name, edit in edits.items()
        ]
        results = item_results([curve for curve, _ in curves])
        for curve, shares in curves:
            scores += curve.scores()
            for share in shares:
                share.add_to(results)
                scores.append(share.score(split))
        rows += results
    return rows, scores


def _curve(
    options: InputEdits,
    context: EvaluationContext,
    split: str,
    items: EncodedSplit,
    name: str,
    edit: Edit,
) -> tuple[RobustnessCurve, list["_Share"]]:
    """Return the curve of one edit, and what became of the items under it."""
    strengths = [float(s) for s in options.strengths.get(name) or edit.strengths]
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
    curve = RobustnessCurve(
        measure=options.name,
        split=split,
        kind=name,
        strengths=strengths,
        right=right,
        chance=judged.chance,
        strength_unit=edit.unit,
        causes=causes,
    )
    return curve, list(_shares(name, draws))


@dataclass(frozen=True, eq=False)
class _Share:
    """How often something happened to an item under an edit: the share of its draws.

    Attributes:
        name: of the score.
        strength: of the edit.
        values: float64, shape (N,), NaN: not applicable to the item.
        unit: of the mean over items.
        no_value: the reason if no item has a value.
    """

    name: str
    strength: float
    values: NDArray[np.float64]
    unit: str
    no_value: str

    @property
    def _key(self) -> str:
        return f"{self.name}_{self.strength:.12g}"

    def add_to(self, rows: list[ItemResult]) -> None:
        """Add the share to the rows of the items that have a value."""
        for row, value in zip(rows, self.values, strict=True):
            if not np.isnan(value):
                row[self._key] = float(value)

    def score(self, split: str) -> Score:
        """Return the mean over the items."""
        known = self.values[~np.isnan(self.values)]
        named: dict[str, Any] = {"measure": "edits", "split": split, "score": self.name}
        common = {**named, "unit": self.unit, "higher_is_better": None, "strength": self.strength}
        if not len(known):
            return Score(value=None, count=0, reason=self.no_value, **common)
        return mean_score(known.tolist(), rows_key=self._key, **common)


_OF_ALL: dict[str, Callable[[EditedItems], NDArray[Any]]] = {
    "left_out": lambda edited: edited.left_out != "",
    "too_long": lambda edited: edited.left_out == "too_long",
    "trained_on": lambda edited: edited.left_out == "trained_on",
}
_OF_KEPT: dict[str, Callable[[EditedItems], NDArray[Any]]] = {
    "unknown_words": lambda edited: edited.of_all(edited.num_unknown > 0),
    "unchanged": lambda edited: edited.of_all(edited.unchanged),
}


def _shares(name: str, draws: Mapping[float, list[EditedItems]]) -> Iterator[_Share]:
    """Yield the shares that are not 0 at all strengths.

    Args:
        name: of the edit.
        draws: strength -> the edited items of each draw.
    """
    for kind, values_of in (_OF_ALL | _OF_KEPT).items():
        values = {s: np.stack([values_of(e) for e in same]) for s, same in draws.items()}
        if not any(np.nansum(at_strength) for at_strength in values.values()):
            continue
        unit = "share of items" if kind in _OF_ALL else "share of edited items"
        for strength, at_strength in values.items():
            no_value = f"no item could be edited at strength {strength:g}"
            yield _Share(
                f"{kind}_under_{name}",
                strength,
                _mean_over_draws(at_strength),
                unit,
                f"{no_value}: {explain_left_out(draws[strength])}",
            )


def _mean_over_draws(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return each item's mean over its draws that are not NaN, else NaN: (R, N) -> (N,)."""
    known = (~np.isnan(values)).sum(axis=0)
    mean = np.full(known.shape, np.nan)
    np.divide(np.nansum(values, axis=0), known, out=mean, where=known > 0)
    return mean


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
