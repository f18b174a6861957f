"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ntpctp._core.runtime import go_offline


class Format(StrEnum):
    """Formats of a printed comparison."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


class FigureFormat(StrEnum):
    """File formats of figures."""

    svg = "svg"
    pdf = "pdf"
    png = "png"


def _go_offline(chosen: bool) -> bool:
    """Go offline as soon as the option is parsed: libraries read the environment on import."""
    if chosen:
        go_offline()
    return chosen


ExperimentFile = Annotated[Path, typer.Argument(help="experiment file (YAML)")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="fields to change: dotted.key=value (training.steps=500 seeds=5)"),
]
Directory = Annotated[
    str,
    typer.Argument(
        metavar="DIRECTORY",
        help="directory or URL of an experiment, or a directory with several experiments",
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="use no network: nothing is downloaded from the Hub or sent anywhere, except to the "
        "cluster that --on names",
        callback=_go_offline,
    ),
]
