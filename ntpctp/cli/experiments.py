"""The commands train, list and audit, on an experiment file."""

from pathlib import Path
from typing import Annotated

import typer

from ntpctp._core.errors import InputError, lookup
from ntpctp.cli.options import ExperimentFile, Offline, Overrides


def train(
    experiment: ExperimentFile,
    overrides: Overrides = None,
    arm: Annotated[str, typer.Option(help="name of the arm to train")] = "",
    seed: Annotated[int, typer.Option(min=0, help="seed of the run")] = 0,
    stage: Annotated[
        str | None, typer.Option(help="name of the stage, if the experiment has stages")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="directory of the experiment; by default runs/<name>")
    ] = None,
    offline: Offline = False,
) -> None:
    """Train one arm with one seed in this process, as recipes/train.py does under accelerate."""
    from ntpctp.config.experiment_file import load_one

    load_one(experiment, overrides or [])  # report errors in the file before torch is imported
    from ntpctp.runner.train_one import train_one

    train_one(experiment, overrides or [], arm, seed, output, stage)


def list_runs(
    experiment: ExperimentFile,
    overrides: Overrides = None,
    stage: Annotated[str | None, typer.Option(help="list only the runs of this stage")] = None,
) -> None:
    """Print every run on a line, as arguments of recipes/train.py: for scripts and job arrays."""
    from ntpctp.config.experiment_file import runs_in

    runs = runs_in(experiment, overrides or [])
    if stage is not None:
        if runs[0][0] is None:
            raise InputError(f"--stage {stage}: {experiment} has no stages. Omit --stage")
        lookup({str(run_stage): None for run_stage, _ in runs}, stage, "stage")
    for run_stage, run_id in runs:
        if stage in (None, run_stage):
            option = f"--stage {run_stage} " if run_stage else ""
            typer.echo(f"{option}--arm {run_id.arm} --seed {run_id.seed}")


def audit(
    experiment: ExperimentFile,
    overrides: Overrides = None,
    examples: Annotated[int, typer.Option(min=0, help="number of examples to print")] = 3,
    json: Annotated[bool, typer.Option("--json", help="print only the counts, as JSON")] = False,
    offline: Offline = False,
) -> None:
    """Show which tokens the loss sees: the first examples token by token, and counts, per arm."""
    from ntpctp.config.experiment_file import load_one

    loaded = load_one(experiment, overrides or [])
    from ntpctp.cli.actions.audit import print_audit

    print_audit(loaded, examples, as_json=json)
