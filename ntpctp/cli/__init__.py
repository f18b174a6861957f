"""The ``ntpctp`` command."""

import sys

import typer

from ntpctp._core import signals
from ntpctp._core.runtime import quiet_libraries
from ntpctp.cli.calibration import calibrate
from ntpctp.cli.checkpoints import evaluate
from ntpctp.cli.console import clear_errors, print_fault
from ntpctp.cli.experiments import audit, list_runs, run, train
from ntpctp.cli.listing import measures, tasks
from ntpctp.cli.results import compare, report
from ntpctp.cli.status import status

__all__ = ["app", "clear_errors", "main"]

app = typer.Typer(
    help="Which tokens should the loss see? Train a model under several objectives that differ in "
    "nothing else, measure every checkpoint, and compare with uncertainty.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

# In the order in which --help shows them.
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
        sys.excepthook = print_fault  # typer has put its own there
