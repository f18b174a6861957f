"""Open the directory or store that the command line names."""

from ntpctp.cli.console import warn
from ntpctp.runner.location import ExperimentLocation, location_of


def open_location(text: str) -> ExperimentLocation:
    """Return the location that a path or URL names, with the results of a store downloaded."""
    location = location_of(text, warn)
    location.pull_results()
    return location
