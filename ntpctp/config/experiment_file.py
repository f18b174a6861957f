"""Read an experiment file of any kind: one experiment, the stages of one, or a sweep."""

from collections.abc import Sequence
from pathlib import Path

from ntpctp._core.layout import RunId
from ntpctp.config.load import load_experiment
from ntpctp.config.schema import Experiment
from ntpctp.config.stages import Stages, load_stages
from ntpctp.config.sweep import Sweep, load_sweep


def load_file(path: Path, overrides: Sequence[str] = ()) -> Experiment | Stages | Sweep:
    """Read and validate an experiment file, which may have ``stages`` or a ``map``.

    Args:
        path: of the YAML file.
        overrides: ``dotted.key=value``, the value in YAML.

    Raises:
        InputError: one message with all errors, each with its line and field; of a file with
            ``stages`` or ``map`` all errors of its first experiment that has any.
    """
    sweep = load_sweep(path, overrides)
    return load_one(path, overrides) if sweep is None else sweep


def load_one(path: Path, overrides: Sequence[str] = ()) -> Experiment | Stages:
    """Read and validate an experiment file, which may have ``stages`` but no ``map``.

    Raises:
        InputError: as ``load_file``, and for a file with ``map``.
    """
    stages = load_stages(path, overrides)
    if stages is None:
        return load_experiment(path, overrides)
    stages.from_scratch()  # every stage is validated before any data are read
    return stages


def runs_in(path: Path, overrides: Sequence[str] = ()) -> list[tuple[str | None, RunId]]:
    """Return all runs of an experiment file with their stages, in an order that can be executed.

    Raises:
        InputError: as ``load_one``.
    """
    loaded = load_one(path, overrides)
    if isinstance(loaded, Experiment):
        return [(None, run) for run in loaded.runs()]
    return [
        (stage, run)
        for stage, experiment in loaded.experiments(Path("runs") / loaded.name).items()
        for run in experiment.runs()
    ]
