"""Robustness to how a question is worded: accuracy under edits that keep the right answer."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from ntpctp._core.errors import InputError, lookup
from ntpctp.data.tasks.base import Task
from ntpctp.data.tasks.edits.base import Edit
from ntpctp.measures.fields import FirstItems, Strengths
from ntpctp.measures.measure import Measure, Measurement


class InputEdits(Measure):
    """Accuracy under edits of the input that keep the right answer.

    Each task defines its edits (``ntpctp tasks``; docs/data.md): another order of the premises,
    other names, irrelevant premises, other wordings, typing errors, white space, case. How an item
    is edited depends on (seed, edit, draw, item) alone: all arms, seeds and steps get the same
    edits, and a stronger edit contains the weaker one.

    An item is right as in the measure ``robustness``: by its candidates, else by the greedy choice
    at every position of the answer, given the reference before it (where there is reasoning, the
    edited reference).

    Scores of each held-out split, for every edit:

    * ``accuracy_under_<edit>`` at each strength: share of items that are right, mean over draws.
    * ``worst_of_draws_under_<edit>``: share of items that are right in every draw.
    * ``flip_rate_under_<edit>``: share of answers, over items and draws, that are right where the
      answer to the original was wrong, or wrong where it was right.
    * ``area_<edit>``: area under the accuracy by the trapezoidal rule, divided by the largest
      strength. ``half_strength_<edit>``: the smallest strength at which half of the advantage over
      chance is lost; null where it is not reached.
    * ``left_out_under_<edit>`` at each strength above 0: share of (item, draw) that is not judged:
      the task cannot make the edit; or the edited item exceeds the context length
      (``too_long_under_<edit>``; the smallest context of all arms, so that all leave out the same
      items); or it equals an example of the training split (``trained_on_under_<edit>``), which the
      model may have memorised.
    * ``unknown_words_under_<edit>``: share of edited items with a word outside the vocabulary (a
      closed vocabulary maps every misspelt word to the same unknown token).
      ``unchanged_under_<edit>``: share of edited items whose tokens are those of the original (some
      tokenizers drop white space).

    The last five are means over draws, then items, and given only where they are not 0 throughout.
    """

    name: Literal["edits"] = "edits"
    edits: list[str] | None = Field(
        None, min_length=1, description="edits to apply; null: all of the task that keep the answer"
    )
    strengths: dict[str, Strengths] = Field(
        default_factory=dict,
        description="edit -> its strengths, rising from 0, instead of the task's own",
    )
    draws: int = Field(3, ge=1, description="random edits of each item, for every kind of edit")
    max_items: FirstItems = 200
    seed: int = Field(0, ge=0, description="seed of the edits")
    version: ClassVar[int] = 2
    by_default: ClassVar[bool] = False
    uses_max_length: ClassVar[bool] = True

    def measure(self, context: Any) -> Measurement:  # noqa: D102
        from ntpctp.measures.computation.input_edits import measure  # imports torch

        return measure(self, context)

    def check(self, task: Task) -> None:  # noqa: D102
        for split in task.evaluation_splits:
            self.edits_of(task, split)

    def edits_of(self, task: Task, split: str) -> dict[str, Edit]:
        """Return the edits of ``task`` to apply to ``split``, by name.

        An unknown edit, or a strength that an edit does not accept, raises ``InputError``.
        """
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
