"""The item rows of joined arms, each run's held against its scores when first read."""

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
        arms: joined name -> experiment, and the arm's name there.
        frame: the scores of all, under the joined names.
    """

    def __init__(self, arms: Mapping[str, tuple[StoredExperiment, str]], frame: pd.DataFrame):
        self._arms = arms
        self._rows = {
            source.label: ItemRows(source.directory, rows_keys(frame))
            for source, _ in arms.values()
        }
        keyed = frame[frame["rows_key"].notna()]
        columns = ["arm", "seed", "step", "measure", "split", "rows_key", "stratum"]
        stratum = keyed["stratum"].astype(object).where(keyed["stratum"].notna(), None)
        keys = keyed.assign(stratum=stratum)[columns].itertuples(index=False, name=None)
        self._expected: dict[tuple[Any, ...], float] = dict(zip(keys, keyed["value"], strict=True))

    def read(self, measure: str, runs: Iterable[tuple[RunId, int]]) -> None:
        """Read what will be asked for: see ``ItemRows.read``."""
        of_sources: dict[str, list[tuple[RunId, int]]] = {}
        for run, step in runs:
            source, arm = self._arms[run.arm]
            of_sources.setdefault(source.label, []).append((RunId(arm, run.seed), step))
        for label, of_source in of_sources.items():
            self._rows[label].read(measure, of_source)

    def values(
        self, run: RunId, step: int, measure: str, split: str, key: str, stratum: str | None
    ) -> ItemValues:
        """Return numbers of items and their values: see ``ItemRows.values``.

        Raises:
            InputError: if their mean is not the score.
        """
        source, arm = self._arms[run.arm]
        of_run = RunId(arm, run.seed)
        found = self._rows[source.label].values(of_run, step, measure, split, key, stratum)
        name = (run.arm, run.seed, step, measure, split, key, stratum)
        expected = self._expected.pop(name, None)
        if expected is not None and not np.isclose(found[1].mean(), expected, rtol=1e-6, atol=1e-9):
            raise InputError(
                f"{source.directory}: {SCORES} says {key} of {of_run} is {expected:.6g}, its item "
                f"rows {found[1].mean():.6g}; `ntpctp compare {source.directory}` writes the "
                "scores anew"
            )
        return found
