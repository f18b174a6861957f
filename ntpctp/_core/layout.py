"""The paths of an experiment's files. Nothing is read or written here, but ``experiments_below``.

<output>/experiment.yaml                            the experiment with all defaults filled in
<output>/<arm>/seed-<k>/                            a run
<output>/<arm>/seed-<k>/train/                      log.jsonl and the checkpoints of the stage
<output>/<arm>/seed-<k>/train/step-000500/          a checkpoint
.../step-000500/evaluation/accuracy.jsonl, .json    items and scores of a measure
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ntpctp._core.errors import InputError

EXPERIMENT = "experiment.yaml"
STAGE = "train"
LOG = "log.jsonl"
RESULTS = "evaluation"
FLOPS = "flops.json"
"""arm -> the steps of its checkpoints, and the expected FLOPs of training up to each."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")
_DEPTH = 4
"""Depth of the search for experiments: runs/<group>/<experiment>/<stage>, and one more."""


@dataclass(frozen=True)
class RunId:
    """An arm and a seed."""

    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}"


def is_url(text: str) -> bool:
    """Whether ``text`` is the URL of a store rather than a local path.

    >>> is_url("s3://bucket/runs/addition"), is_url("runs/addition")
    (True, False)
    """
    return _URL.match(text) is not None


def run_directory(output: Path, run: RunId) -> Path:
    """Return the directory of a run."""
    return output / run.arm / f"seed-{run.seed}"


def stage_directory(output: Path, run: RunId) -> Path:
    """Return the directory of a run's checkpoints and log."""
    return run_directory(output, run) / STAGE


def checkpoint_directory(stage: Path, step: int) -> Path:
    """Return the directory of the checkpoint at ``step``."""
    return stage / f"step-{step:06d}"


def rows_path(checkpoint: Path, measure: str) -> Path:
    """Return the file of a measure's items, one row each."""
    return checkpoint / RESULTS / f"{measure}.jsonl"


def scores_path(checkpoint: Path, measure: str) -> Path:
    """Return the file of a measure's scores; it is written after the rows."""
    return rows_path(checkpoint, measure).with_suffix(".json")


def run_again(output: Path) -> str:
    """Return the command that resumes the experiment in ``output``, for messages."""
    return f"`ntpctp run {output / EXPERIMENT} --output {output}`"


def experiments_below(directory: Path) -> list[Path]:
    """Return the directories of all experiments in ``directory``, itself included.

    Experiments inside an experiment are ignored.

    Raises:
        InputError: if there is no experiment.
    """
    experiments = list(_search(directory, _DEPTH))
    if not experiments:
        raise InputError(
            f"{directory}: expected the directory of an experiment, or one with experiments in it; "
            f"found no {EXPERIMENT} down to {_DEPTH} directories deep"
        )
    return experiments


def _search(directory: Path, depth: int) -> Iterator[Path]:
    if (directory / EXPERIMENT).is_file():
        yield directory
    elif depth and directory.is_dir():
        for inside in sorted(directory.iterdir()):
            if inside.is_dir() and not inside.name.startswith("."):
                yield from _search(inside, depth - 1)
