"""What is to be measured: from the paths that a user gives to checkpoints, each once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ntpctp._core.errors import InputError
from ntpctp._core.layout import EXPERIMENT, RESULTS, RunId, stage_directory
from ntpctp.config import load_output
from ntpctp.models import checkpoints
from ntpctp.models.external import ExternalCheckpoint, open_external


@dataclass(frozen=True)
class OfRun:
    """Where a checkpoint comes from, if an experiment trained it."""

    root: Path  # the experiment's directory
    run: RunId


@dataclass(frozen=True)
class Target:
    """A checkpoint that is to be measured.

    Attributes:
        label: for messages.
        directory: of the checkpoint.
        results: the directory of its results.
        origin: the run of an experiment, or a checkpoint of another program.
    """

    label: str
    directory: Path
    results: Path
    origin: OfRun | ExternalCheckpoint

    @property
    def given(self) -> str:
        """What transformers could load it by."""
        return (
            self.origin.given
            if isinstance(self.origin, ExternalCheckpoint)
            else str(self.directory)
        )

    def digest(self) -> str:
        """Return what changes with anything that decides what the model says.

        Raises:
            InputError: if a checkpoint of a run does not verify.
        """
        if isinstance(self.origin, ExternalCheckpoint):
            return self.origin.digest
        return checkpoints.verify(self.directory)


def targets_of(given: Sequence[str], output: Path | None = None) -> list[Target]:
    """Return all checkpoints that ``given`` name, in order, each once.

    Args:
        given: experiment directories, run directories (``.../<arm>/seed-<k>``), checkpoints in
            them, other checkpoints, or ids of the hub.
        output: where results go; by default beside each checkpoint.

    Raises:
        InputError: if one is none of these, two would share a directory of results, or there is no
            place for results.
    """
    found: dict[Path, Target] = {}
    for path in given:
        for target in _targets(path, output):
            known = found.setdefault(target.results.resolve(), target)
            if known.directory.resolve() != target.directory.resolve():
                raise InputError(
                    f"{known.directory} and {target.directory}: the results of both would go to "
                    f"{target.results}; measure them one after the other, each with its own "
                    "--output"
                )
    return list(found.values())


def _targets(given: str, output: Path | None) -> list[Target]:
    path = Path(given).resolve()
    root = next((p for p in (path, *path.parents) if (p / EXPERIMENT).is_file()), None)
    if root is None:
        return [_foreign(given, output)]
    found = []
    for run in load_output(root).runs():
        for checkpoint in checkpoints.list_checkpoints(stage_directory(root, run)):
            if path in (checkpoint, *checkpoint.parents):
                results = checkpoint / RESULTS
                if output is not None:
                    results = output / root.name / checkpoint.relative_to(root)
                label = f"{run}, {checkpoint.name}"
                found.append(Target(label, checkpoint, results, OfRun(root, run)))
    if not found:
        raise InputError(f"{path}: no checkpoint of the experiment {root} is there")
    return found


def _foreign(given: str, output: Path | None) -> Target:
    checkpoint = open_external(given)
    if output is not None:
        return Target(checkpoint.name, checkpoint.directory, output / checkpoint.name, checkpoint)
    if not Path(given).exists():
        raise InputError(
            f"{given}: is a model of the hub, and nothing is written into the hub's cache; say "
            "where the results go: --output DIRECTORY"
        )
    return Target(checkpoint.name, checkpoint.directory, checkpoint.directory / RESULTS, checkpoint)
