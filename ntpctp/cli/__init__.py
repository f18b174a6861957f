"""The ``ntpctp`` command."""

import sys

import typer

from ntpctp import stopping
from ntpctp.cli.calibration import calibrate
from ntpctp.cli.catalogues import measures, tasks
from ntpctp.cli.checkpoints import evaluate
from ntpctp.cli.console import clear_errors, print_fault
from ntpctp.cli.experiments import audit, list_runs, run, train
from ntpctp.cli.results import compare, report
from ntpctp.cli.states import status
from ntpctp.libraries import quiet_libraries

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
        with clear_errors(), stopping.listening():
            app()
    finally:
        sys.excepthook = print_fault  # typer has put its own there
