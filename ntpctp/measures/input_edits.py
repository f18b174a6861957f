"""Robustness to how a question is put: accuracy while the input is edited, the answer kept."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntpctp._core.errors import InputError, lookup
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.measures.computation.curve import RobustnessCurve, Strengths, item_rows
from ntpctp.measures.computation.edited import EditedItems, edit_items, task_of, why_left_out
from ntpctp.measures.computation.judging import JudgedItems
from ntpctp.measures.measure import EncodedSplit, EvaluationContext, Measure, Score, mean_score


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
    * ``left_out_under_<edit>`` at each strength above 0: share of (item, draw) that is no question
      to the model after the edit and so not judged there: because the task cannot edit it so,
      because it is longer than the context then (``too_long_under_<edit>``; the smallest context of
      all arms, so that all leave out the same), or because it is an example of the training split
      then (``trained_on_under_<edit>``: the model may have memorised it).
    * ``unknown_words_under_<edit>``: share of edited items with a word that the vocabulary does not
      have (a closed vocabulary reads each misspelt word as one and the same unknown token);
      ``unchanged_under_<edit>``: share of those that the tokenizer reads as before (one that drops
      white space).

    The last five are means over draws, then items, and given only where they are not 0 throughout.
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

    version: ClassVar[int] = 2
    by_default: ClassVar[bool] = False
    by_context: ClassVar[bool] = True

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        for split in subject.evaluation_splits:
            edits = self._edits(task_of(subject), split)
            items = subject.splits[split].head(self.max_items)
            if not edits:
                scores.append(_nothing_to_edit(split, len(items.encoded)))
                continue
            curves = [self._curve(subject, split, items, *pair) for pair in edits.items()]
            of_split = item_rows([curve for curve, _ in curves])
            for curve, shares in curves:
                scores += curve.scores()
                for share in shares:
                    share.add_to(of_split)
                    scores.append(share.score(split))
            rows += of_split
        return rows, scores

    def check(self, task: Task) -> None:  # noqa: D102
        for split in task.evaluation_splits:
            self._edits(task, split)

    def _edits(self, task: Task, split: str) -> dict[str, Edit]:
        known = {name: edit for name, edit in task.edits(split).items() if edit.keeps_answer}
        for name in [*(self.edits or ()), *self.strengths]:
            lookup(known, name, f"edit of the split {split}")
        for name, strengths in self.strengths.items():
            for strength in strengths:
                try:
                    known[name].check(strength)
                except InputError as error:
                    raise InputError(f"edits: strengths.{name}: {error}") from error
        return {name: edit for name, edit in known.items() if name in (self.edits or known)}

    def axis(self, score: str) -> str:  # noqa: D102
        return "strength of the edit, see its unit"

    def _curve(
        self, subject: EvaluationContext, split: str, items: EncodedSplit, name: str, edit: Edit
    ) -> tuple[RobustnessCurve, list["_Share"]]:
        """Return the curve of one edit, and what became of the items under it."""
        strengths = [float(s) for s in self.strengths.get(name) or edit.strengths]
        judged = JudgedItems(items, subject.tokenizer)
        right = np.empty((self.draws, len(items.encoded), len(strengths)))
        right[..., 0] = judged.right(subject.model, subject.budget)
        made: dict[float, list[EditedItems]] = {strength: [] for strength in strengths[1:]}
        for draw in range(self.draws):
            stream = self.seed, zlib.crc32(name.encode()), draw
            for place, strength in enumerate(strengths[1:], 1):
                edited = edit_items(subject, items, edit, strength, stream)
                right[draw, :, place] = edited.right(subject, judged.mode)
                made[strength].append(edited)
        causes: dict[float | None, str] = {s: why_left_out(draws) for s, draws in made.items()}
        causes[None] = why_left_out([edited for draws in made.values() for edited in draws])
        curve = RobustnessCurve(
            self.name,
            split,
            name,
            strengths,
            right,
            judged.chance,
            edit.unit,
            causes=causes,
        )
        return curve, list(_shares(name, made))


@dataclass(frozen=True, eq=False)
class _Share:
    """What became of the items under an edit: the share of draws in which it did, item by item.

    Attributes:
        name: of the score.
        strength: of the edit.
        values: float64, shape (items,), NaN: the item has none.
        unit: of the mean.
        why_none: the reason if no item has one.
    """

    name: str
    strength: float
    values: NDArray[np.float64]
    unit: str
    why_none: str

    @property
    def _key(self) -> str:
        return f"{self.name}_{self.strength:.12g}"

    def add_to(self, rows: list[dict[str, Any]]) -> None:
        """Add its field to the rows of the items that have a value."""
        for row, value in zip(rows, self.values, strict=True):
            if not np.isnan(value):
                row[self._key] = float(value)

    def score(self, split: str) -> Score:
        """Return the mean over the items."""
        known = self.values[~np.isnan(self.values)]
        named: dict[str, Any] = {"measure": "edits", "split": split, "score": self.name}
        common = {**named, "unit": self.unit, "higher_is_better": None, "strength": self.strength}
        if not len(known):
            return Score(value=None, count=0, reason=self.why_none, **common)
        return mean_score(known.tolist(), rows_key=self._key, **common)


def _shares(name: str, made: Mapping[float, list[EditedItems]]) -> Iterator[_Share]:
    """Yield what became of the items, of each kind that there is; strength -> draw by draw."""
    of_items: dict[str, Callable[[EditedItems], NDArray[Any]]] = {
        "left_out": lambda edited: edited.left_out != "",
        "too_long": lambda edited: edited.left_out == "too_long",
        "trained_on": lambda edited: edited.left_out == "trained_on",
    }
    of_kept: dict[str, Callable[[EditedItems], NDArray[Any]]] = {
        "unknown_words": lambda edited: edited.of_all(edited.num_unknown > 0),
        "unchanged": lambda edited: edited.of_all(edited.unchanged),
    }
    for kind, values_of in (of_items | of_kept).items():
        values = {s: np.stack([values_of(e) for e in draws]) for s, draws in made.items()}
        if not any(np.nansum(of_strength) for of_strength in values.values()):
            continue
        unit = "share of items" if kind in of_items else "share of edited items"
        for strength, of_strength in values.items():
            why_none = f"no item could be edited at strength {strength:g}"
            yield _Share(
                f"{kind}_under_{name}",
                strength,
                _over_draws(of_strength),
                unit,
                f"{why_none}: {why_left_out(made[strength])}",
            )


def _over_draws(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of what is not NaN, item by item; NaN where nothing is: (R, N) -> (N,)."""
    known = (~np.isnan(values)).sum(axis=0)
    found = np.full(known.shape, np.nan)
    np.divide(np.nansum(values, axis=0), known, out=found, where=known > 0)
    return found


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
