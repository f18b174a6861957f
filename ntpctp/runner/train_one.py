"""Train one run in the processes of ``accelerate launch``, for recipes/train.py."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from ntpctp._core import signals
from ntpctp._core.errors import InputError, lookup
from ntpctp._core.layout import RunId, run_directory
from ntpctp.config import Experiment, load_experiment
from ntpctp.config.stages import load_stages
from ntpctp.runner.budget import with_steps
from ntpctp.runner.events import Event
from ntpctp.runner.prepare import encoded_beside, prepare
from ntpctp.runner.run import accelerator_for, exclusive_run, train_run
from ntpctp.runner.stages import prepare_stages
from ntpctp.training.accelerator import leave_process_group
from ntpctp.training.trackers import check_trackers

_console = Console(emoji=False)


def train_one(
    path: Path,
    overrides: Sequence[str],
    arm: str,
    seed: int,
    output: Path | None,
    stage: str | None = None,
) -> None:
    """Train one arm with one seed on all processes of the launch.

    Args:
        path: of the experiment file.
        overrides: ``dotted.key=value``.
        arm: its name; for a stage, the name that the arm has in it.
        seed: one of the experiment's.
        output: directory of the experiment; by default ``runs/<name>``.
        stage: of a file with stages; the stages before it must be trained.

    Raises:
        InputError: for a bad experiment, an unknown stage or arm, or a seed that is not in it.
    """
    experiment, directory = _experiment_of(path, overrides, output, stage)
    lookup(experiment.arms, arm, "arm")
    if seed not in experiment.seeds:
        raise InputError(
            f"--seed {seed}: not a seed of the experiment. Expected one of {experiment.seeds}"
        )
    check_trackers(experiment.trackers)
    experiment = with_steps(experiment, encoded_beside(directory))
    run = RunId(arm, seed)
    accelerator = accelerator_for(experiment, run, directory)

    def show(event: Event) -> None:
        if event.kind == "training":
            _console.print(f"{event.run}: step {event.done}/{event.total}, loss {event.loss:.4f}")
        elif event.kind != "checkpoint":
            _console.print(f"{event.run}: {event.kind} {event.text}", markup=False)

    data = prepare(experiment, encoded_beside(directory))
    accelerator.print(
        f"{run}: {accelerator.num_processes} process(es), {accelerator.device} -> "
        f"{run_directory(directory, run)}"
    )
    main = accelerator.is_main_process
    with signals.listening(), exclusive_run(run, directory) if main else nullcontext():
        train_run(experiment, data, run, directory, accelerator, show)
    leave_process_group(accelerator)


def _experiment_of(
    path: Path, overrides: Sequence[str], output: Path | None, stage: str | None
) -> tuple[Experiment, Path]:
    """Return the experiment to train, and its directory."""
    stages = load_stages(path, overrides)
    if stages is None:
        if stage is not None:
            raise InputError(f"--stage {stage}: {path} has no stages. Omit --stage")
        experiment = load_experiment(path, overrides)
        return experiment, output or Path("runs") / experiment.name
    if stage is None:
        raise InputError(
            f"{path}: the experiment has stages. Choose one with --stage: "
            f"{', '.join(stages.stages)}"
        )
    lookup(stages.stages, stage, "stage")
    whole = output or Path("runs") / stages.name
    return prepare_stages(stages, whole).experiments(whole)[stage], whole / stage
