"""The command status."""

import json as json_format
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
    from ntpctp import pipeline, terminal
    from ntpctp.places import place_of
    from ntpctp.states import record_of, states_of

    place = place_of(directory, warn)
    place.pull_states()
    records = []
    for path in pipeline.experiments_below(place.directory):
        experiment = pipeline.load_output(path)
        states = list(states_of(experiment, path))
        if json:
            records.append(record_of(experiment, path, states))
        else:
            for renderable in terminal.states_tables(experiment.name, states, everything):
                console.print(renderable)
    if json:
        typer.echo(json_format.dumps(records, indent=2))
