"""The item rows of joined arms, verified against the scores when first read."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId
from ntpctp.analysis.item_scores import ItemRows, ItemValues, rows_keys
from ntpctp.analysis.joins.stored_experiments import StoredExperiment
from ntpctp.analysis.scores import SCORES


class JoinedItemRows:
    """The item rows of joined arms.

    Args:
        arms: joined name -> experiment and the arm's name in it.
        frame: the scores of all experiments, with joined names of arms.
    """

    def __init__(self, arms: Mapping[str, tuple[StoredExperiment, str]], frame: pd.DataFrame):
        self._arms = arms
        self._rows = {
            stored.label: ItemRows(stored.directory, rows_keys(frame))
            for stored, _ in arms.values()
        }
        keyed = frame[frame["rows_key"].notna()]
        columns = ["arm", "seed", "step", "measure", "split", "rows_key", "stratum"]
        stratum = keyed["stratum"].astype(object).where(keyed["stratum"].notna(), None)
        keys = keyed.assign(stratum=stratum)[columns].itertuples(index=False, name=None)
        self._expected: dict[tuple[Any, ...], float] = dict(zip(keys, keyed["value"], strict=True))

    def read(self, measure: str, runs: Iterable[tuple[RunId, int]]) -> None:
        """Read the item rows of several runs into the cache: see ``ItemRows.read``."""
        by_experiment: dict[str, list[tuple[RunId, int]]] = {}
        for run, step in runs:
            stored, arm = self._arms[run.arm]
            by_experiment.setdefault(stored.label, []).append((RunId(arm, run.seed), step))
        for label, of_experiment in by_experiment.items():
            self._rows[label].read(measure, of_experiment)

    def values(
        self, run: RunId, step: int, measure: str, split: str, key: str, stratum: str | None
    ) -> ItemValues:
        """Return the items that have a value, with their values: see ``ItemRows.values``.

        Raises:
            InputError: if the mean of the values is not the stored score.
        """
        stored, arm = self._arms[run.arm]
        of_run = RunId(arm, run.seed)
        result = self._rows[stored.label].values(of_run, step, measure, split, key, stratum)
        name = (run.arm, run.seed, step, measure, split, key, stratum)
        expected = self._expected.pop(name, None)
        if expected is None:
            return result
        mean = result.values.mean()
        if not np.isclose(mean, expected, rtol=1e-6, atol=1e-9):
            raise InputError(
                f"{stored.directory}: {SCORES} disagrees with the item rows: {key} of {of_run} is "
                f"{expected:.6g} there, the mean of its item rows {mean:.6g}. "
                f"`ntpctp compare {stored.directory}` rebuilds {SCORES}"
            )
        return result
