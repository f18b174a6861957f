"""Where everything of an experiment lies: names alone, whatever is there.

<output>/experiment.yaml                            as resolved: with all defaults
<output>/<arm>/seed-<k>/                            a run
<output>/<arm>/seed-<k>/train/                      log.jsonl and the checkpoints of the stage
<output>/<arm>/seed-<k>/train/step-000500/          a checkpoint
.../step-000500/evaluation/accuracy.jsonl, .json    rows and scores of a measure
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
"""arm -> steps of its checkpoints and the operations of training until there, as expected."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*://")
_DEPTH = 4
"""How deep experiments are looked for: runs/<group>/<experiment>/<stage>, and one more."""


@dataclass(frozen=True)
class RunId:
    """An arm and a seed."""

    arm: str
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}"


def is_url(text: str) -> bool:
    """Whether ``text`` names a store, not a local path.

    >>> is_url("s3://bucket/runs/addition"), is_url("runs/addition")
    (True, False)
    """
    return _URL.match(text) is not None


def run_directory(output: Path, run: RunId) -> Path:
    """Return where a run lives."""
    return output / run.arm / f"seed-{run.seed}"


def stage_directory(output: Path, run: RunId) -> Path:
    """Return where a run's checkpoints and log live."""
    return run_directory(output, run) / STAGE


def checkpoint_directory(stage: Path, step: int) -> Path:
    """Return the directory of the checkpoint at ``step``."""
    return stage / f"step-{step:06d}"


def rows_path(checkpoint: Path, measure: str) -> Path:
    """Return where the rows of a measure are stored."""
    return checkpoint / RESULTS / f"{measure}.jsonl"


def scores_path(checkpoint: Path, measure: str) -> Path:
    """Return where the scores of a measure are stored, after its rows."""
    return rows_path(checkpoint, measure).with_suffix(".json")


def run_again(output: Path) -> str:
    """Return the command that carries on the experiment in ``output``, for messages."""
    return f"`ntpctp run {output / EXPERIMENT} --output {output}`"


def experiments_below(directory: Path) -> list[Path]:
    """Return the directories of all experiments in ``directory``, itself included.

    Inside of one no other is looked for.

    Raises:
        InputError: if there is none.
    """
    found = list(_look(directory, _DEPTH))
    if not found:
        raise InputError(
            f"{directory}: expected the directory of an experiment, or one with experiments in it; "
            f"found no {EXPERIMENT} down to {_DEPTH} directories deep"
        )
    return found


def _look(directory: Path, depth: int) -> Iterator[Path]:
    if (directory / EXPERIMENT).is_file():
        yield directory
    elif depth and directory.is_dir():
        for inside in sorted(directory.iterdir()):
            if inside.is_dir() and not inside.name.startswith("."):
                yield from _look(inside, depth - 1)
