"""Calibrate the verdicts of an experiment."""

import typer

from ntpctp.analysis import calibration
from ntpctp.cli.actions.locations import open_location
from ntpctp.cli.actions.results import compare_and_report
from ntpctp.cli.actions.run import RunOptions, execute_runs
from ntpctp.cli.console import console
from ntpctp.config import load_output
from ntpctp.report.terminal.calibrations import calibration_tables


def calibrate_experiment(where: str, num_seeds: int | None, workers: int | None) -> None:
    """Write and print the calibration of an experiment, and write its report again.

    Args:
        where: directory or URL of the experiment.
        num_seeds: new seeds of every arm to train first; None: use stored runs alone.
        workers: concurrent runs; None: one for each core.

    Raises:
        typer.Exit: with code 1 if a new run failed.
    """
    location = open_location(where)
    directory = location.directory
    if num_seeds is not None:
        fresh = calibration.with_fresh_seeds(load_output(directory), num_seeds)
        trained = location.inside(calibration.TRAINED)
        failed = execute_runs(fresh, trained, RunOptions(workers=workers))
        trained.push_files()
        if failed:
            raise typer.Exit(1)
    record = calibration.calibrate(directory)
    calibration.write_calibration(record, directory)
    for renderable in calibration_tables(record):
        console.print(renderable)
    compare_and_report(directory, None)
    location.push_files()
