"""The command calibrate."""

from typing import Annotated

import typer

from ntpctp.cli.options import Offline
from ntpctp.cli.results import check_experiment_files


def calibrate(
    where: Annotated[
        str, typer.Argument(metavar="DIRECTORY", help="directory or URL of an experiment")
    ],
    train: Annotated[
        int | None,
        typer.Option(
            min=1, help="first train every arm with this many new seeds, in DIRECTORY/calibration"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="with --train: concurrent runs; by default one for each core"),
    ] = None,
    offline: Offline = False,
) -> None:
    """Test the verdicts on the experiment's own runs.

    How often does the comparison call an arm different from itself? How often does the interval of
    two arms contain a known difference?
    """
    check_experiment_files([where])
    from ntpctp.cli.actions.calibrate import calibrate_experiment

    calibrate_experiment(where, train, workers)
