"""The command status."""

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from ntpctp.cli.console import console, warn


def status(
    directory: Annotated[
        str,
        typer.Argument(help="an experiment's directory or URL, or one with several in it"),
    ],
    json: Annotated[bool, typer.Option("--json", help="all runs, for machines")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="also list the runs that are done or wait")
    ] = False,
) -> None:
    """Show what every run is doing: done, running, failed, stopped, waiting, and the time left.

    A failed run keeps its traceback until the same `ntpctp run` begins it again.
    """
    # Nothing here imports torch: that would take several times as long as looking.
    from ntpctp._core.layout import experiments_below
    from ntpctp.report.terminal.status import states_tables
    from ntpctp.runner.status import run_statuses, status_record
    from ntpctp.runner.summary import read_summary

    records = []
    for path in experiments_below(_brought(directory)):
        asked = read_summary(path)
        states = list(run_statuses(asked, path))
        if json:
            records.append(status_record(asked, path, states))
        else:
            for renderable in states_tables(asked.name, states, everything):
                console.print(renderable)
    if json:
        typer.echo(json_format.dumps(records))


def _brought(text: str) -> Path:
    """Return the directory that a path or URL names, with what its store says of runs."""
    from ntpctp._core.layout import is_url

    if not is_url(text):
        return Path(text)
    from ntpctp.runner.location import location_of

    place = location_of(text, warn)
    place.pull_status()
    return place.directory
