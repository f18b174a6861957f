"""The command status."""

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from ntpctp._core.layout import experiments_below, is_url
from ntpctp.cli.console import console, warn
from ntpctp.cli.options import Directory


def status(
    directory: Directory,
    json: Annotated[bool, typer.Option("--json", help="print all runs as JSON")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="also list runs that are done or waiting")
    ] = False,
) -> None:
    """Show the state of every run (done, running, failed, stopped, waiting) and the time left.

    A failed run keeps its traceback until the same `ntpctp run` restarts it.
    """
    # Nothing imported here loads torch, which would take several times as long as the command.
    from ntpctp.report.terminal.status import states_tables
    from ntpctp.runner.status import run_statuses, status_record
    from ntpctp.runner.summary import read_summary

    records = []
    for path in experiments_below(_with_states(directory)):
        asked = read_summary(path)
        states = list(run_statuses(asked, path))
        if json:
            records.append(status_record(asked, path, states))
        else:
            for renderable in states_tables(asked.name, states, everything):
                console.print(renderable)
    if json:
        typer.echo(json_format.dumps(records))


def _with_states(text: str) -> Path:
    """Return the directory that a path or URL names, with the states of runs in a store."""
    if not is_url(text):
        return Path(text)
    from ntpctp.runner.location import location_of

    location = location_of(text, warn)
    location.pull_status()
    return location.directory
