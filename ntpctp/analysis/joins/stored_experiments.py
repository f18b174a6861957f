"""Read experiments from their directories and verify that their scores are current."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ntpctp._core.errors import InputError
from ntpctp._core.layout import EXPERIMENT, RunId, checkpoint_directory, stage_directory
from ntpctp._core.provenance import read_provenance
from ntpctp._core.text import listed
from ntpctp.analysis.scores import SCORES, read_scores
from ntpctp.config import Experiment, load_output
from ntpctp.runner.evaluate import outdated


@dataclass(frozen=True)
class StoredExperiment:
    """One experiment, read from its directory.

    Attributes:
        label: its name, or its directory if several experiments have that name.
        directory: where it is stored.
        experiment: its settings.
        frame: its ``scores.parquet``.
        data: fingerprint of its data; None: not recorded.
        packages: versions of the libraries that computed it.
    """

    label: str
    directory: Path
    experiment: Experiment
    frame: pd.DataFrame
    data: str | None
    packages: Mapping[str, str | None]


def experiments_in(directories: Iterable[Path]) -> list[Path]:
    """Return the directories of experiments; a staged experiment is replaced by its stages.

    Raises:
        InputError: if a directory neither is an experiment nor contains one, or is given twice.
    """
    experiments: list[Path] = []
    for directory in directories:
        if (directory / EXPERIMENT).is_file():
            experiments.append(directory)
            continue
        inside = sorted(path.parent for path in directory.glob(f"*/{EXPERIMENT}"))
        if not inside:
            raise InputError(
                f"{directory}: not an experiment's directory: no {EXPERIMENT} in it or in a "
                "directory directly below it"
            )
        experiments += inside
    for path, count in Counter(path.resolve() for path in experiments).items():
        if count > 1:
            raise InputError(f"{path}: given {count} times. Give every experiment once")
    return experiments


def read_stored(directories: Sequence[Path]) -> list[StoredExperiment]:
    """Read experiments from their directories.

    Raises:
        InputError: if the scores of a directory are missing, of another schema version, or made by
            another version of a measure.
    """
    experiments = [load_output(directory) for directory in directories]
    names = Counter(experiment.name for experiment in experiments)
    return [
        _read_one(
            experiment.name if names[experiment.name] == 1 else str(directory),
            directory,
            experiment,
        )
        for directory, experiment in zip(directories, experiments, strict=True)
    ]


def _read_one(label: str, directory: Path, experiment: Experiment) -> StoredExperiment:
    frame = read_scores(directory)
    stale: Counter[str] = Counter()
    for name, arm in experiment.arms.items():
        last = arm.training.steps
        for seed in experiment.seeds:
            path = checkpoint_directory(stage_directory(directory, RunId(name, seed)), last)
            for measure in experiment.evaluation.at(last, last):
                if cause := outdated(path, measure):
                    stale[cause] += 1
    if stale:
        raise InputError(
            f"{directory}: the last checkpoints of {stale.total()} runs were measured by "
            f"{listed(stale)}; `ntpctp evaluate {directory}` measures them again, then "
            f"`ntpctp compare {directory}` writes {SCORES}"
        )
    record = read_provenance(directory)
    return StoredExperiment(
        label,
        directory,
        experiment,
        frame,
        record.get("data_fingerprint"),
        record.get("packages", {}),
    )
