"""The table of all scores of an experiment, and the item rows behind them.

``scores.parquet`` has one row a score; its columns, in order:

================  =======  ========================================================================
experiment, arm   text     names
seed              int      of the run
stage             text     of the arm
step              int      optimizer steps at which the checkpoint was taken
tokens            int      read in training until then, padding excluded
supervised_tokens int      of those, the ones whose loss weight was not zero
measure, split    text     what was measured, on which examples; ``learning``: of a whole run
score             text     the name of the number
stratum           text     "hops = 3": the part of the items that it is about; null: all of them
strength          float    of a perturbation; null where there is none
value             float    null where it could not be computed
unit              text     of the value
count             int      items that it rests on
standard_error    float    over items; null where there is none
error_bound       float    of a numerical method
higher_is_better  bool     null: neither
rows_key          text     the field of the item rows that the value is the mean of; may be null
reason            text     why the value is null
schema_version    int      2
================  =======  ========================================================================
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ntpctp import checkpoints
from ntpctp.errors import InputError
from ntpctp.evaluation import rows_path, stored
from ntpctp.experiment import Experiment
from ntpctp.learning import learning_scores
from ntpctp.runs import RECORD, STAGE, RunId, run_directory, stage_directory
from ntpctp.storage import atomic_file, read_json, read_jsonl

SCHEMA_VERSION = 2
SCORES = "scores.parquet"
IDENTITY = ["measure", "split", "stratum", "score", "strength"]
"""The columns that say which number a row is, whatever the run and the step."""

_REFINEMENTS = (
    "brier",
    "calibration_error",
    "choice_brier",
    "choice_calibration_error",
    "choice_normalised",
    "contrast_edited",
    "contrast_followed",
    "contrast_original",
    "flip_rate_under_",
    "half_strength_",
    "teacher_forced",
    "uncritical_loss",
    "worst_of_draws_under_",
)
"""Beginnings of scores that say more about another one."""


def stands_alone(
    measure: str, split: str, stratum: str | None, score: str, strength: float | None
) -> bool:
    """Whether a score belongs among the few that are shown first, rather than refining another.

    Not one of a part of the items, of a point of a curve, nor of one edit of the input among many.

    Args:
        measure: as the others the columns of ``IDENTITY``.
        split: of no matter.
        stratum: None for all items.
        score: its name.
        strength: None where there is none.
    """
    return strength is None and stratum is None and not refines(measure, score)


def refines(measure: str, score: str) -> bool:
    """Whether a score says more about another one: it is shown behind that one."""
    return measure == "edits" or score.startswith(_REFINEMENTS)


_TYPES = {
    "experiment": "str",
    "arm": "str",
    "seed": "int64",
    "stage": "str",
    "step": "int64",
    "tokens": "int64",
    "supervised_tokens": "int64",
    "measure": "str",
    "split": "str",
    "score": "str",
    "stratum": "str",
    "strength": "float64",
    "value": "float64",
    "unit": "str",
    "count": "int64",
    "standard_error": "float64",
    "error_bound": "float64",
    "higher_is_better": "boolean",
    "rows_key": "str",
    "reason": "str",
    "censored": "bool",
    "schema_version": "int64",
}


def collect(experiment: Experiment, output: Path) -> pd.DataFrame:
    """Return the scores of all checkpoints that are measured; what is missing is left out.

    Raises:
        InputError: if runs were trained on different data.
    """
    _check_same_data(experiment, output)
    rows = list(_rows(experiment, output))
    frame = pd.DataFrame(rows, columns=list(_TYPES)).astype(_TYPES)
    derived = list(_learning_rows(experiment, frame))
    if not derived:
        return frame
    more = pd.DataFrame(derived, columns=list(_TYPES)).astype(_TYPES)
    return pd.concat([frame, more], ignore_index=True)


def _learning_rows(experiment: Experiment, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the scores of whole runs that have come to their last step, at that step."""
    for (name, _), of_run in frame.groupby(["arm", "seed"], sort=False):
        last = of_run[of_run["step"] == experiment.arms[str(name)].training.steps]
        if len(last):
            columns = ("experiment", "arm", "seed", "stage", "step", "tokens", "supervised_tokens")
            of_all = {column: last.iloc[0][column] for column in columns}
            for score in learning_scores(of_run, experiment):
                yield {**of_all, **score.as_dict(), "schema_version": SCHEMA_VERSION}


def _check_same_data(experiment: Experiment, output: Path) -> None:
    """Refuse to compare runs whose data differ: items of one number would not be one item."""
    first: dict[str, RunId] = {}
    for arm in experiment.arms:
        for seed in experiment.seeds:
            run = RunId(arm, seed)
            path = run_directory(output, run) / RECORD
            if path.is_file():
                first.setdefault(read_json(path)["run"]["data_fingerprint"], run)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise InputError(
            f"{output}: the runs {one} and {other} were made with different data, so they cannot "
            "be compared; delete those that are out of date and run the experiment again"
        )


def _rows(experiment: Experiment, output: Path) -> Iterator[dict[str, Any]]:
    for name, arm in experiment.arms.items():
        steps = experiment.evaluation.checkpoint_steps(arm.training.steps)
        for seed in experiment.seeds:
            for step in steps:
                stage = stage_directory(output, RunId(name, seed))
                path = checkpoints.directory_of(stage, step)
                if not path.is_dir():
                    continue
                progress = checkpoints.read_progress(path)
                for measure in experiment.evaluation.at(step, steps[-1]):
                    for score in stored(path, measure) or ():
                        yield {
                            "experiment": experiment.name,
                            "arm": name,
                            "seed": seed,
                            "stage": STAGE,
                            "step": step,
                            "tokens": progress.tokens,
                            "supervised_tokens": progress.supervised_tokens,
                            **score.as_dict(),
                            "schema_version": SCHEMA_VERSION,
                        }


def write_scores(frame: pd.DataFrame, output: Path) -> None:
    """Write ``scores.parquet``, atomically."""
    with atomic_file(output / SCORES) as temporary:
        frame.to_parquet(temporary, index=False)


def read_scores(output: Path) -> pd.DataFrame:
    """Read ``scores.parquet``.

    Raises:
        InputError: if there is none, or it has another schema version.
    """
    path = output / SCORES
    if not path.is_file():
        raise InputError(f"{path}: no scores yet; run the experiment first")
    frame = pd.read_parquet(path)
    versions = set(frame["schema_version"])
    if versions - {SCHEMA_VERSION}:
        raise InputError(
            f"{path}: its schema version is {sorted(versions)}, this program reads "
            f"{SCHEMA_VERSION}; run the experiment again to rewrite it"
        )
    return frame


class ItemRows:
    """The item rows of measured checkpoints, each file read once.

    Args:
        output: the experiment's directory.
    """

    def __init__(self, output: Path):
        self._output = output
        self._read: dict[Path, list[dict[str, Any]]] = {}

    def values(
        self,
        run: RunId,
        step: int,
        measure: str,
        split: str,
        key: str,
        stratum: str | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the numbers of the items that have a value, rising, and the values: (items,) each.

        With ``stratum``, only of the items whose row says that they belong to it.
        """
        checkpoint = checkpoints.directory_of(stage_directory(self._output, run), step)
        path = rows_path(checkpoint, measure)
        if path not in self._read:
            self._read[path] = sorted(read_jsonl(path), key=lambda row: int(row.get("item", 0)))
        rows = [
            row
            for row in self._read[path]
            if row["split"] == split
            and (stratum is None or stratum in row.get("strata", ()))
            and row.get(key) is not None
        ]
        numbers = np.array([row.get("item", 0) for row in rows], np.int64)
        return numbers, np.array([row[key] for row in rows], np.float64)
