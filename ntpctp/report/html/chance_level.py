"""The score of guessing among an item's candidates: a dotted line in the figures."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntpctp._core.layout import RunId
from ntpctp.config import Experiment
from ntpctp.report.html.inputs import read_item_rows

_OF_CANDIDATES = ("choice", "choice_normalised")
_PERTURBED = ("robustness", "weight_noise", "adversarial")
"""Measures judged by candidates if every item has some, otherwise by the generated answer."""


@dataclass(frozen=True)
class _Candidates:
    count: int
    strata: Collection[str]


class ChanceLevels:
    """The score of guessing on each split.

    It is the mean of 1 / candidates over the items behind a score, read from the item rows of
    ``accuracy``. A generated answer has no chance level.

    Args:
        experiment: whose last checkpoints are read.
        output: its directory.
    """

    def __init__(self, experiment: Experiment, output: Path):
        self._output = output
        self._runs = [
            (RunId(name, seed), arm.training.steps)
            for name, arm in experiment.arms.items()
            for seed in experiment.seeds
        ]
        self._candidates: dict[str, Mapping[int, _Candidates]] = {}

    def of(self, measure: str, split: str, score: str, stratum: str | None = None) -> float | None:
        """Return the score of guessing, from 0 to 1; None if it is unknown.

        Args:
            measure: that gave the score.
            split: its split.
            score: its name.
            stratum: "hops = 3" for a part of the items.
        """
        known = self._candidates_of(split)
        if measure == "accuracy" and score in _OF_CANDIDATES:
            counts = [c.count for c in known.values() if stratum is None or stratum in c.strata]
        elif measure in _PERTURBED and score.startswith("accuracy_under_"):
            items = [int(row["item"]) for row in self._item_rows(measure, split)]
            counts = [known[item].count for item in items if item in known]
            if len(counts) < len(items):
                return None  # an item without candidates: all are judged by generated answers
        else:
            return None
        return sum(1 / count for count in counts) / len(counts) if counts else None

    def _candidates_of(self, split: str) -> Mapping[int, _Candidates]:
        if split not in self._candidates:
            self._candidates[split] = {
                int(row["item"]): _Candidates(
                    len(row["choice_log_likelihoods"]), row.get("strata") or ()
                )
                for row in self._item_rows("accuracy", split)
                if row.get("choice_log_likelihoods")
            }
        return self._candidates[split]

    def _item_rows(self, measure: str, split: str) -> list[dict[str, Any]]:
        """Return the rows of the first measured run: all runs have the same splits and items."""
        for run, step in self._runs:
            rows = read_item_rows(self._output, run, step, measure, split)
            if rows is not None:
                return rows
        return []
