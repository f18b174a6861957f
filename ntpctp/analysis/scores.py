"""The table of all scores of an experiment.

``scores.parquet`` has one row per score; its columns, in order:

=================  =======  =======================================================================
experiment, arm    text     names
seed               int      of the run
stage              text     of the arm
step               int      optimizer steps at which the checkpoint was taken
tokens             int      read in training up to that step, padding excluded
supervised_tokens  int      of these, the tokens with a loss weight above zero
measure, split     text     the measure and the examples it used; ``learning``: of a whole run
score              text     name of the score
stratum            text     subset of the items, such as "hops = 3"; null: all items
strength           float    of a perturbation; null without one
value              float    null if it could not be computed
unit               text     of the value
count              int      number of items behind the value
standard_error     float    over items; null if not computed
error_bound        float    of a numerical method, or of interpolation between two checkpoints
higher_is_better   bool     null: descriptive only
rows_key           text     field of the item rows whose mean the value is; null: no such field
reason             text     why the value is null
censored           bool     the value is null because it exceeds the measured range
schema_version     int      2, the same in all rows
=================  =======  =======================================================================

docs/scores.md has examples of queries.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_file

SCHEMA_VERSION = 2
SCORES = "scores.parquet"
IDENTITY = ["measure", "split", "stratum", "score", "strength"]
"""The columns that identify a score, independent of run and step."""

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
"""Prefixes of scores that refine another score."""


def stands_alone(
    measure: str, split: str, stratum: str | None, score: str, strength: float | None
) -> bool:
    """Return whether a score is shown first: it covers all items and refines no other score.

    Scores of a stratum, of one strength of a perturbation, or of one input edit are shown behind.

    Args:
        measure: this and the other arguments are the columns of ``IDENTITY``.
        split: has no influence.
        stratum: None for all items.
        score: its name.
        strength: None without a perturbation.
    """
    return strength is None and stratum is None and not refines(measure, score)


def refines(measure: str, score: str) -> bool:
    """Return whether a score refines another score, behind which it is shown."""
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


def table_of(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows, one per score, as a table with all columns and their types."""
    # Column by column: pandas takes four times as long to align the keys of many mappings.
    columns = {column: [row[column] for row in rows] for column in _TYPES}
    return pd.DataFrame(columns).astype(_TYPES)


def write_scores(frame: pd.DataFrame, output: Path) -> None:
    """Write ``scores.parquet``, atomically."""
    with atomic_file(output / SCORES) as temporary:
        frame.to_parquet(temporary, index=False)


def read_scores(output: Path) -> pd.DataFrame:
    """Read ``scores.parquet``.

    Raises:
        InputError: if the file is missing, is no table of scores, or has rows of another schema
            version.
    """
    path = output / SCORES
    if not path.is_file():
        raise InputError(f"{path}: no scores yet; run the experiment first")
    again = f"`ntpctp compare {output}` rebuilds it from the measured checkpoints"
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a Parquet file: {error}; {again}") from error
    versions = frame.get("schema_version", pd.Series([None], dtype=object)).unique().tolist()
    if versions != [SCHEMA_VERSION] and len(frame):
        found = ", ".join("none" if pd.isna(v) else str(v) for v in sorted(versions, key=str))
        raise InputError(
            f"{path}: expected rows of schema version {SCHEMA_VERSION}, found {found}; {again}"
        )
    if missing := [column for column in _TYPES if column not in frame]:
        raise InputError(f"{path}: missing columns: {', '.join(missing)}; {again}")
    return frame
