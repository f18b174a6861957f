"""The command calibrate."""

from typing import Annotated

import typer

from ntpctp.cli.console import Offline, console
from ntpctp.cli.experiments import Where, train_all
from ntpctp.cli.results import conclude, opened_location


def calibrate(
    where: Annotated[
        str, typer.Argument(metavar="DIRECTORY", help="an experiment's directory or URL")
    ],
    train: Annotated[
        int | None,
        typer.Option(
            min=1, help="first train every arm with this many seeds more, in DIRECTORY/calibration"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="with --train: runs at once; by default one a core")
    ] = None,
    offline: Offline = False,
) -> None:
    """Prove the verdicts honest on the experiment's own runs.

    How often is an arm called different from itself, and how often does the interval of two arms
    hold a difference that is known?
    """
    from ntpctp.analysis import calibration
    from ntpctp.config import load_output
    from ntpctp.report.terminal.calibrations import calibration_tables

    place = opened_location(where)
    directory = place.directory
    if train is not None:
        fresh = calibration.with_fresh_seeds(load_output(directory), train)
        train_all(fresh, place.inside(calibration.TRAINED), Where(workers=workers))
    record = calibration.calibrate(directory)
    calibration.write_calibration(record, directory)
    for renderable in calibration_tables(record):
        console.print(renderable)
    conclude(directory, None)
    place.push_files()
