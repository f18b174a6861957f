"""The command run."""

from pathlib import Path
from typing import Annotated

import typer

from ntpctp._core.errors import InputError
from ntpctp.cli.options import ExperimentFile, Offline, Overrides


def run(
    experiment: ExperimentFile,
    overrides: Overrides = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="directory of the results, or a URL (s3://bucket/path); by default runs/<name>"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="concurrent runs on this machine; by default one for each core"),
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            help="where to execute runs: local; ray, ray://HOST:PORT or ray:HOST:PORT; slurm "
            "(see docs/scale.md)"
        ),
    ] = "local",
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="also restart runs that failed with an error of their own"
        ),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="print the expected cost in time and disk; train nothing"),
    ] = False,
    flops_per_second: Annotated[
        float | None,
        typer.Option(help="with --plan: peak FLOP/s of the device (312e12: A100 in bf16)"),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="with --plan: processes, or GPUs, that share each run")
    ] = 1,
    offline: Offline = False,
) -> None:
    """Train, measure and compare all arms and seeds of an experiment.

    A file with stages is done stage by stage, a file with a map cell by cell. Run the same command
    again to resume after a stop.
    """
    if flops_per_second is not None and not 0 < flops_per_second < float("inf"):
        raise InputError(
            f"--flops-per-second: expected a finite number above 0, found {flops_per_second}"
        )
    from ntpctp.config.experiment_file import load_file

    loaded = load_file(experiment, overrides or [])
    # The file is valid: only now import torch, which takes seconds.
    if plan:
        from ntpctp.cli.actions.plan import print_plan

        print_plan(loaded, workers, flops_per_second, processes)
    else:
        from ntpctp.cli.actions.run import RunOptions, run_loaded

        run_loaded(
            loaded, output or Path("runs") / loaded.name, RunOptions(on, workers, retry_failed)
        )
