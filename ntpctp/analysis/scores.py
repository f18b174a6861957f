"""The table of all scores of an experiment.

``scores.parquet`` has one row a score; its columns, in order:

=================  =======  =======================================================================
experiment, arm    text     names
seed               int      of the run
stage              text     of the arm
step               int      optimizer steps at which the checkpoint was taken
tokens             int      read in training until then, padding excluded
supervised_tokens  int      of those, the ones whose loss weight was not zero
measure, split     text     what was measured, on which examples; ``learning``: of a whole run
score              text     the name of the number
stratum            text     "hops = 3": the part of the items that it is about; null: all of them
strength           float    of a perturbation; null where there is none
value              float    null where it could not be computed
unit               text     of the value
count              int      items that it rests on
standard_error     float    over items; null where there is none
error_bound        float    of a numerical method, or of what lies between two checkpoints
higher_is_better   bool     null: neither
rows_key           text     the field of the item rows that the value is the mean of; may be null
reason             text     why the value is null
censored           bool     the null stands for more than was measured: larger, not missing
schema_version     int      2, the same in all rows
=================  =======  =======================================================================

docs/scores.md has examples of queries.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ntpctp._core.errors import InputError
from ntpctp._core.files import atomic_file
from ntpctp._core.layout import STAGE, RunId, checkpoint_directory, run_directory, stage_directory
from ntpctp.analysis.run_scores import whole_run_scores
from ntpctp.config import Experiment
from ntpctp.models import checkpoints
from ntpctp.runner.evaluate import outdated, stored
from ntpctp.runner.run import RECORD, read_record

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

    Item rows are held against their scores at the last steps, where a comparison reads them.

    Raises:
        InputError: if runs were trained on different data; or if stored scores were made by
            another version of a measure or with other options: left out, they would be lost.
    """
    _check_same_data(experiment, output)
    stale: dict[str, list[Path]] = {}
    rows = list(_rows(experiment, output, stale))
    if stale:
        raise InputError(_stale_message(output, stale))
    frame = _frame(rows)
    derived = list(_learning_rows(experiment, frame))
    return pd.concat([frame, _frame(derived)], ignore_index=True) if derived else frame


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    # Column by column: pandas takes four times as long to line up the keys of many mappings.
    columns = {column: [row[column] for row in rows] for column in _TYPES}
    return pd.DataFrame(columns).astype(_TYPES)


def _stale_message(output: Path, stale: Mapping[str, Sequence[Path]]) -> str:
    lines = [
        f"{len(paths)} {'checkpoint was' if len(paths) == 1 else 'checkpoints were'} measured by "
        f"{what}" + _thin(paths)
        for what, paths in stale.items()
    ]
    return (
        f"{output}: {'; '.join(lines)}. `ntpctp evaluate {output}` measures them again; until then "
        f"{SCORES} and the report stay as they are"
    )


def _thin(paths: Sequence[Path]) -> str:
    """Say how many have lost the weights that measuring again needs."""
    thin = sum(map(checkpoints.is_thin, paths))
    return f", {thin} of them without weights (evaluation.keep): train again for those" * bool(thin)


def _learning_rows(experiment: Experiment, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the scores of whole runs that have come to their last step, at that step."""
    steps = {name: arm.training.steps for name, arm in experiment.arms.items()}
    ends = frame[frame["step"] == frame["arm"].map(steps)].drop_duplicates(["arm", "seed"])
    columns = ["experiment", "arm", "seed", "stage", "step", "tokens", "supervised_tokens"]
    of_runs: dict[Any, dict[Any, Any]] = {
        (end["arm"], end["seed"]): end for end in ends[columns].to_dict("records")
    }
    for run, scores in whole_run_scores(frame, experiment).items():
        if run in of_runs:
            for score in scores:
                yield {**of_runs[run], **score.as_dict(), "schema_version": SCHEMA_VERSION}


def _check_same_data(experiment: Experiment, output: Path) -> None:
    """Refuse to compare runs whose data differ: items of one number would not be one item."""
    first: dict[str, RunId] = {}
    for arm in experiment.arms:
        for seed in experiment.seeds:
            run = RunId(arm, seed)
            path = run_directory(output, run) / RECORD
            if path.is_file():
                first.setdefault(read_record(path)["data_fingerprint"], run)
    if len(first) > 1:
        one, other = list(first.values())[:2]
        raise InputError(
            f"{output}: the runs {one} and {other} were made with different data, so they cannot "
            "be compared; delete those that are out of date and run the experiment again"
        )


def _rows(
    experiment: Experiment, output: Path, stale: dict[str, list[Path]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all checkpoints; note under ``stale`` what was measured otherwise."""
    for name, arm in experiment.arms.items():
        steps = experiment.evaluation.checkpoint_steps(arm.training.steps)
        for seed in experiment.seeds:
            stage = stage_directory(output, RunId(name, seed))
            for step in steps:
                path = checkpoint_directory(stage, step)
                if not path.is_dir():
                    continue
                progress = checkpoints.read_progress(path)
                of_checkpoint = {
                    "experiment": experiment.name,
                    "arm": name,
                    "seed": seed,
                    "stage": STAGE,
                    "step": step,
                    "tokens": progress.tokens,
                    "supervised_tokens": progress.supervised_tokens,
                    "schema_version": SCHEMA_VERSION,
                }
                for measure in experiment.evaluation.at(step, steps[-1]):
                    scores = stored(path, measure, verify=step == steps[-1])
                    if scores is None and (what := outdated(path, measure)):
                        stale.setdefault(what, []).append(path)
                    for score in scores or ():
                        yield of_checkpoint | score.as_dict()


def write_scores(frame: pd.DataFrame, output: Path) -> None:
    """Write ``scores.parquet``, atomically."""
    with atomic_file(output / SCORES) as temporary:
        frame.to_parquet(temporary, index=False)


def read_scores(output: Path) -> pd.DataFrame:
    """Read ``scores.parquet``.

    Raises:
        InputError: if there is none, it is no table of scores, or some rows have another schema
            version.
    """
    path = output / SCORES
    if not path.is_file():
        raise InputError(f"{path}: no scores yet; run the experiment first")
    again = f"`ntpctp compare {output}` writes it anew from what is measured"
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
        raise InputError(f"{path}: columns are missing: {', '.join(missing)}; {again}")
    return frame
