"""The base of all measures and their scores. Imports no torch: an experiment file is read first."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from ntpctp._core.options import Options
from ntpctp.data.tasks.base import Task

ItemResult: TypeAlias = dict[str, Any]
"""A row of a measure's result file: fields of one item, or of one condition."""


@dataclass(frozen=True)
class Score:
    """One number, with everything needed to read it.

    ``value`` is None where it could not be computed; ``reason`` then says why.
    """

    measure: str
    split: str
    score: str
    value: float | None
    unit: str
    count: int  # items that the value rests on
    higher_is_better: bool | None  # None: descriptive, neither direction is better
    standard_error: float | None = None  # over items
    error_bound: float | None = None  # of a numerical method, for instance a residual
    strength: float | None = None  # of a perturbation, for curves
    rows_key: str | None = None  # the field of the result rows whose mean the score is
    reason: str | None = None
    censored: bool = False  # null because the value lies beyond the measured range, not missing
    stratum: str | None = None  # "hops = 3": over the items of this level only; None: over all

    def as_dict(self) -> dict[str, Any]:
        """Return the score as a row of ``scores.parquet``."""
        return dict(vars(self))


Measurement: TypeAlias = tuple[list[ItemResult], list[Score]]
"""What a measure returns: result rows, and the scores computed from them."""


def joined(parts: Iterable[Measurement]) -> Measurement:
    """Return the rows and the scores of several measurements, one a split, as one."""
    rows: list[ItemResult] = []
    scores: list[Score] = []
    for rows_of_part, scores_of_part in parts:
        rows += rows_of_part
        scores += scores_of_part
    return rows, scores


class Measure(Options, ABC):
    """The options of a measure, and the measurement itself.

    A new measure is a subclass with a ``name: Literal["..."]`` field and an entry in ``MEASURES``.
    Its module must import neither torch nor transformers, so that an experiment file is validated
    in a moment: ``measure`` imports what it computes with.
    """

    name: str
    at: Literal["all", "last"] = Field("all", description="which checkpoints are measured")

    version: ClassVar[int] = 1
    """Raise it with every change that moves a number: stored results of another version are
    measured again."""
    by_default: ClassVar[bool] = True
    """Whether an experiment that lists no measures includes this one."""
    uses_max_length: ClassVar[bool] = False
    """Whether its numbers depend on ``EvaluationContext.max_length``."""

    def axis(self, score: str) -> str:
        """Return the title of a figure's axis for the strengths of the score, with their unit."""
        return "strength"

    def check(self, task: Task) -> None:
        """Check, before training, that the options fit ``task``, else raise ``InputError``."""

    def check_model(self, model: Any) -> None:
        """Check, before training, that the options fit the ``PreTrainedModel``, likewise."""

    @abstractmethod
    def measure(self, context: Any) -> Measurement:
        """Return result rows, one an item and condition, and scores of an ``EvaluationContext``."""


class BuiltIn(Measure):
    """A measure that a function ``measure`` computes, in the module of its name."""

    def measure(self, context: Any) -> Measurement:  # noqa: D102
        module = import_module(f"ntpctp.measures.computation.{self.name}")  # imports torch
        measurement: Measurement = module.measure(self, context)
        return measurement
