"""What guessing among candidates gets right, where that is known: a line in the figures."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntpctp._core.layout import RunId
from ntpctp.config import Experiment
from ntpctp.report.html.inputs import read_items

_OF_CANDIDATES = ("choice", "choice_normalised")
_DISTURBED = ("robustness", "weight_noise", "adversarial")
"""Measures that judge by candidates if all of their items have some, else by what is written."""


@dataclass(frozen=True)
class _Candidates:
    count: int
    strata: Collection[str]


class Chances:
    """The score of guessing on each split.

    It is the mean of 1 / candidates over the items that a score rests on, as the item rows of
    ``accuracy`` list them. An answer that is written freely has no such number.

    Args:
        experiment: whose last checkpoints are looked at.
        output: its directory.
    """

    def __init__(self, experiment: Experiment, output: Path):
        self._output = output
        self._runs = [
            (RunId(name, seed), arm.training.steps)
            for name, arm in experiment.arms.items()
            for seed in experiment.seeds
        ]
        self._known: dict[str, Mapping[int, _Candidates]] = {}

    def of(self, measure: str, split: str, score: str, stratum: str | None = None) -> float | None:
        """Return what guessing scores, from 0 to 1; None where that is not known.

        Args:
            measure: that gave the score.
            split: which examples.
            score: its name.
            stratum: "hops = 3" for a part of the items.
        """
        known = self._candidates(split)
        if measure == "accuracy" and score in _OF_CANDIDATES:
            counts = [c.count for c in known.values() if stratum is None or stratum in c.strata]
        elif measure in _DISTURBED and score.startswith("accuracy_under_"):
            items = self._items(measure, split)
            counts = [known[item].count for item in items if item in known]
            if len(counts) < len(items):
                return None  # some item has no candidates, so none is judged by them
        else:
            return None
        return sum(1 / count for count in counts) / len(counts) if counts else None

    def _candidates(self, split: str) -> Mapping[int, _Candidates]:
        if split not in self._known:
            self._known[split] = {
                int(row["item"]): _Candidates(
                    len(row["choice_log_likelihoods"]), row.get("strata") or ()
                )
                for row in self._rows("accuracy", split)
                if row.get("choice_log_likelihoods")
            }
        return self._known[split]

    def _items(self, measure: str, split: str) -> list[int]:
        return [int(row["item"]) for row in self._rows(measure, split)]

    def _rows(self, measure: str, split: str) -> list[dict[str, Any]]:
        """Return the rows of the first run that is measured: all have the same splits and items."""
        for run, step in self._runs:
            rows = read_items(self._output, run, step, measure, split)
            if rows is not None:
                return rows
        return []
