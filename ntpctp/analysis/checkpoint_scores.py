"""Collect the scores of all measured checkpoints of an experiment into one table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ntpctp._core.errors import InputError
from ntpctp._core.layout import STAGE, RunId, checkpoint_directory, run_directory, stage_directory
from ntpctp.analysis.run_scores import whole_run_scores
from ntpctp.analysis.scores import SCHEMA_VERSION, SCORES, table_of
from ntpctp.config import Experiment
from ntpctp.models import checkpoints
from ntpctp.runner.evaluate import outdated, stored
from ntpctp.runner.run import RECORD, read_record


def collect(experiment: Experiment, output: Path) -> pd.DataFrame:
    """Return the scores of all measured checkpoints; checkpoints without scores are skipped.

    At the last steps, which a comparison reads, item rows are verified against their scores.

    Raises:
        InputError: if runs were trained on different data, or if stored scores are outdated: made
            by another version of a measure or with other options.
    """
    _check_same_data(experiment, output)
    stale: dict[str, list[Path]] = {}
    rows = list(_rows(experiment, output, stale))
    if stale:
        raise InputError(_stale_message(output, stale))
    frame = table_of(rows)
    derived = list(_learning_rows(experiment, frame))
    return pd.concat([frame, table_of(derived)], ignore_index=True) if derived else frame


def _stale_message(output: Path, stale: Mapping[str, Sequence[Path]]) -> str:
    lines = [
        f"{len(paths)} {'checkpoint was' if len(paths) == 1 else 'checkpoints were'} measured by "
        f"{cause}" + _thin(paths)
        for cause, paths in stale.items()
    ]
    return (
        f"{output}: {'; '.join(lines)}. `ntpctp evaluate {output}` measures them again; until then "
        f"{SCORES} and the report are not changed"
    )


def _thin(paths: Sequence[Path]) -> str:
    """Return how many checkpoints lack the weights needed to measure again; "" if none does."""
    thin = sum(map(checkpoints.is_thin, paths))
    return f", {thin} of them without weights (evaluation.keep): train those again" * bool(thin)


def _learning_rows(experiment: Experiment, frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the whole-run scores of runs measured at their last step, as rows of that step."""
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
    """Refuse to compare runs with different data: equal item numbers would mean different items."""
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
            f"{output}: the runs {one} and {other} were trained on different data, so they cannot "
            "be compared. Delete the outdated runs and run the experiment again"
        )


def _rows(
    experiment: Experiment, output: Path, stale: dict[str, list[Path]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all checkpoints; add outdated ones to ``stale``, cause -> checkpoints."""
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
                    if scores is None and (cause := outdated(path, measure)):
                        stale.setdefault(cause, []).append(path)
                    for score in scores or ():
                        yield of_checkpoint | score.as_dict()
