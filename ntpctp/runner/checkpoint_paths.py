"""Checkpoints to be measured: resolves the paths that a user gives, each checkpoint once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ntpctp._core.errors import InputError
from ntpctp._core.layout import EXPERIMENT, RESULTS, RunId, stage_directory
from ntpctp.config import load_output
from ntpctp.models import checkpoints
from ntpctp.models.external import ExternalCheckpoint, open_external


@dataclass(frozen=True)
class RunOrigin:
    """The run of an experiment that trained a checkpoint."""

    root: Path  # the experiment's directory
    run: RunId


@dataclass(frozen=True)
class EvaluationTarget:
    """A checkpoint to be measured.

    Attributes:
        label: for messages.
        directory: of the checkpoint.
        results: directory of its results.
        origin: the run of an experiment, or a checkpoint of another program.
    """

    label: str
    directory: Path
    results: Path
    origin: RunOrigin | ExternalCheckpoint

    @property
    def given(self) -> str:
        """Path or Hub id from which transformers can load it."""
        if isinstance(self.origin, ExternalCheckpoint):
            return self.origin.given
        return str(self.directory)

    def digest(self) -> str:
        """Return a content hash of weights, config and tokenizer.

        Raises:
            InputError: if a checkpoint of a run does not verify.
        """
        if isinstance(self.origin, ExternalCheckpoint):
            return self.origin.digest
        return checkpoints.verify(self.directory)


def find_targets(given: Sequence[str], output: Path | None = None) -> list[EvaluationTarget]:
    """Return all checkpoints named by ``given``, in order, each once.

    Args:
        given: experiment directories, run directories (``.../<arm>/seed-<k>``), checkpoints in
            them, other checkpoints, or ids on the Hub.
        output: directory of results; by default in each checkpoint.

    Raises:
        InputError: if one is none of these, if two would share a directory of results, or if a
            model of the Hub has no ``output``.
    """
    targets: dict[Path, EvaluationTarget] = {}
    for path in given:
        for target in _targets(path, output):
            known = targets.setdefault(target.results.resolve(), target)
            if known.directory.resolve() != target.directory.resolve():
                raise InputError(
                    f"{known.directory} and {target.directory}: both would write results to "
                    f"{target.results}. Measure them separately, each with its own --output"
                )
    return list(targets.values())


def _targets(given: str, output: Path | None) -> list[EvaluationTarget]:
    path = Path(given).resolve()
    root = next((p for p in (path, *path.parents) if (p / EXPERIMENT).is_file()), None)
    if root is None:
        return [_external(given, output)]
    targets = []
    for run in load_output(root).runs():
        for checkpoint in checkpoints.list_checkpoints(stage_directory(root, run)):
            if path in (checkpoint, *checkpoint.parents):
                results = checkpoint / RESULTS
                if output is not None:
                    results = output / root.name / checkpoint.relative_to(root)
                label = f"{run}, {checkpoint.name}"
                targets.append(EvaluationTarget(label, checkpoint, results, RunOrigin(root, run)))
    if not targets:
        raise InputError(f"{path}: no checkpoint of the experiment {root} in this directory")
    return targets


def _external(given: str, output: Path | None) -> EvaluationTarget:
    checkpoint = open_external(given)
    name, directory = checkpoint.name, checkpoint.directory
    if output is not None:
        return EvaluationTarget(name, directory, output / name, checkpoint)
    if not Path(given).exists():
        raise InputError(
            f"{given}: results cannot be written into the cache of the Hub. Choose a directory for "
            "them: --output DIRECTORY"
        )
    return EvaluationTarget(name, directory, directory / RESULTS, checkpoint)
