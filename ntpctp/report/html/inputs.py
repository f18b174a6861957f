"""Files that the page reads beside the scores: logs, item rows, counts. Each may be missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from ntpctp._core.errors import InputError
from ntpctp._core.files import read_jsonl, read_numbered_jsonl
from ntpctp._core.layout import (
    LOG,
    RunId,
    checkpoint_directory,
    rows_path,
    run_again,
    stage_directory,
)
from ntpctp._core.records import read_sealed
from ntpctp.config import Experiment
from ntpctp.report.html.wording import part_label
from ntpctp.runner.audit import AUDIT

_LOGGED = ("step", "loss", "tokens", "supervised_tokens", "seconds")
_MOST_POINTS = 250
"""Of a loss curve: more than a figure has pixels to show."""


@dataclass(frozen=True)
class MissingScore:
    """A score that the experiment requests and does not have."""

    run: RunId
    step: int
    score: str
    reason: str


def at_last_step(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each arm's last step."""
    last = {name: arm.training.steps for name, arm in experiment.arms.items()}
    return frame[frame["step"] == frame["arm"].map(last)]


def last_checkpoint(experiment: Experiment, output: Path, run: RunId) -> Path:
    """Return the directory of a run's checkpoint at its last step."""
    stage = stage_directory(output, run)
    return checkpoint_directory(stage, experiment.arms[run.arm].training.steps)


def direction_of(score: pd.Series) -> bool | None:
    """Return whether a higher score is better; None: the score is descriptive only."""
    higher = score["higher_is_better"]
    return None if pd.isna(higher) else bool(higher)


Logs = Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]
"""arm -> seed -> lines of log.jsonl."""


def read_logs(experiment: Experiment, output: Path) -> Logs:
    """Return the logs of all runs.

    Raises:
        InputError: as ``read_log``.
    """
    return {
        name: {seed: read_log(output, RunId(name, seed)) for seed in experiment.seeds}
        for name in experiment.arms
    }


def read_log(output: Path, run: RunId) -> list[dict[str, Any]]:
    """Return the lines of a run's log; an empty list if it has not started.

    Raises:
        InputError: for a line that lacks a number; it names file and line.
    """
    path = stage_directory(output, run) / LOG
    lines = read_numbered_jsonl(path, ended=True) if path.is_file() else []
    for number, line in lines:
        for name in _LOGGED:
            if not isinstance(line.get(name), int | float):
                raise InputError(
                    f"{path}, line {number}: expected a number as {name}, found "
                    f"{line.get(name)!r:.80}; {run_again(output)} retrains damaged runs"
                )
    return [line for _, line in lines]


def loss_curve(log: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Return (step, loss), averaged over neighbouring lines to at most ``_MOST_POINTS`` points."""
    size = -(-len(log) // _MOST_POINTS) or 1
    pieces = [log[start : start + size] for start in range(0, len(log), size)]
    return [(int(p[-1]["step"]), sum(float(line["loss"]) for line in p) / len(p)) for p in pieces]


def read_audit(output: Path) -> dict[str, Any] | None:
    """Return the counts of supervised tokens in ``audit.json``; None if there is no such file.

    Raises:
        InputError: if the file is corrupted.
    """
    path = output / AUDIT
    remedy = f"{run_again(output)} writes it again"
    return read_sealed(path, remedy) if path.is_file() else None


def read_item_rows(
    output: Path, run: RunId, step: int, measure: str, split: str
) -> list[dict[str, Any]] | None:
    """Return the item rows of a measure on a split, in order; None if it was not measured."""
    path = rows_path(checkpoint_directory(stage_directory(output, run), step), measure)
    if not path.is_file():
        return None
    rows = [row for row in read_jsonl(path) if row["split"] == split]
    return sorted(rows, key=lambda row: int(row["item"]))


def missing_scores(experiment: Experiment, frame: pd.DataFrame) -> Iterator[MissingScore]:
    """Yield every score without a value, and every measure of every checkpoint without a score."""
    known = frame["value"].notna() | frame["censored"]
    for row in frame[~known].to_dict("records"):
        strength = "" if pd.isna(row["strength"]) else f" at strength {row['strength']:g}"
        stratum = None if pd.isna(row["stratum"]) else str(row["stratum"])
        reason = row["reason"] if isinstance(row["reason"], str) else "no reason was recorded"
        words = f"{row['measure']}: {part_label(row['split'], stratum)} {row['score']}{strength}"
        run = RunId(str(row["arm"]), int(row["seed"]))
        yield MissingScore(run, int(row["step"]), words, reason)
    reason = (
        "not measured: the run has not reached this step, has failed, or its stored scores do not "
        "match their item rows"
    )
    measured = set(zip(frame["arm"], frame["seed"], frame["step"], frame["measure"], strict=True))
    for name, arm in experiment.arms.items():
        steps = experiment.evaluation.checkpoint_steps(arm.training.steps)
        for seed, step in product(experiment.seeds, steps):
            for measure in experiment.evaluation.at(step, steps[-1]):
                if (name, seed, step, measure.name) not in measured:
                    words = f"{measure.name}: all of its scores"
                    yield MissingScore(RunId(name, seed), step, words, reason)
