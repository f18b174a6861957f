"""The score of guessing among an item's candidates: a dotted line in the figures."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ntpctp._core.layout import RunId
from ntpctp.config import Experiment
from ntpctp.report.html.inputs import read_item_rows

_OF_CANDIDATES = ("choice", "choice_normalised")
_PERTURBED = ("robustness", "weight_noise", "adversarial")
"""Measures judged by candidates if every item has some, otherwise by the generated answer."""


class ChanceLevels:
    """The score of guessing on each split, for the experiment in the directory ``output``.

    It is the mean of 1 / candidates over the items behind a score, read from the item rows of
    ``accuracy`` at the last step. A generated answer has no chance level.
    """

    def __init__(self, experiment: Experiment, output: Path):
        self._output = output
        self._runs = [
            (RunId(name, seed), arm.training.steps)
            for name, arm in experiment.arms.items()
            for seed in experiment.seeds
        ]
        self._candidates: dict[str, dict[int, tuple[int, Collection[str]]]] = {}
        """split -> item -> number of its candidates, and its strata"""

    def of(self, measure: str, split: str, score: str, stratum: str | None = None) -> float | None:
        """Return the score of guessing, from 0 to 1; None if it is unknown.

        ``stratum`` ("hops = 3") restricts it to a part of the items.
        """
        known = self._candidates_of(split)
        if measure == "accuracy" and score in _OF_CANDIDATES:
            counts = [n for n, strata in known.values() if stratum is None or stratum in strata]
        elif measure in _PERTURBED and score.startswith("accuracy_under_"):
            items = [int(row["item"]) for row in self._item_rows(measure, split)]
            counts = [known[item][0] for item in items if item in known]
            if len(counts) < len(items):
                return None  # an item without candidates: all are judged by generated answers
        else:
            return None
        return sum(1 / count for count in counts) / len(counts) if counts else None

    def _candidates_of(self, split: str) -> dict[int, tuple[int, Collection[str]]]:
        if split not in self._candidates:
            self._candidates[split] = {
                int(row["item"]): (len(row["choice_log_likelihoods"]), row.get("strata") or ())
                for row in self._item_rows("accuracy", split)
                if row.get("choice_log_likelihoods")
            }
        return self._candidates[split]

    def _item_rows(self, measure: str, split: str) -> list[dict[str, Any]]:
        """Return the rows of the first measured run: all runs have the same splits and items."""
        found = (read_item_rows(self._output, *run, measure, split) for run in self._runs)
        return next((rows for rows in found if rows is not None), [])
