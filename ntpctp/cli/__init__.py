"""The ``ntpctp`` command. Its modules import torch only inside the commands that need it."""

import sys
from typing import Annotated

import typer

from ntpctp._core import signals
from ntpctp._core.runtime import quiet_libraries
from ntpctp.cli.calibration import calibrate
from ntpctp.cli.checkpoints import evaluate
from ntpctp.cli.console import clear_errors, print_fault
from ntpctp.cli.experiments import audit, list_runs, train
from ntpctp.cli.listing import measures, tasks
from ntpctp.cli.results import compare, report
from ntpctp.cli.run import run
from ntpctp.cli.status import status

__all__ = ["app", "clear_errors", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(chosen: bool) -> None:
    if chosen:
        from ntpctp import __version__

        typer.echo(f"ntpctp {__version__}")
        raise typer.Exit


@app.callback()
def ntpctp(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="print the version and exit", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Which tokens should the loss see?

    Train one model under several objectives that differ in nothing else, such as next-token
    prediction (NTP, loss on all tokens) and critical-token prediction (CTP, loss on the answer).
    Measure every checkpoint, and compare the objectives with uncertainty.
    """


# --help lists the commands in this order.
app.command()(run)
app.command()(train)
app.command("list")(list_runs)
app.command()(status)
app.command()(evaluate)
app.command()(compare)
app.command()(report)
app.command()(calibrate)
app.command()(audit)
app.command()(tasks)
app.command()(measures)


def main() -> None:
    """Run the ``ntpctp`` command."""
    quiet_libraries()
    try:
        with clear_errors(), signals.listening():
            app()
    finally:
        sys.excepthook = print_fault  # typer replaces it
