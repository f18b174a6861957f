"""The commands compare and report, on what was measured."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ntpctp._core.errors import InputError
from ntpctp._core.layout import EXPERIMENT, is_url
from ntpctp.cli.options import Directory, FigureFormat, Format


def compare(
    directories: Annotated[
        list[str],
        typer.Argument(
            help="directory or URL of an experiment; or several, or a directory with several, to "
            "be joined"
        ),
    ],
    format_name: Annotated[
        Format,
        typer.Option(
            "--format",
            help="format of the printed comparison: table for a terminal; json and csv with all "
            "scores and digits, markdown and latex rounded, each with nothing else on stdout",
        ),
    ] = Format.table,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="markdown and latex: also scores by stratum and by strength, and descriptive "
            "scores",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="several directories: also write the joined comparison to this file, in the "
            "format of --format json; by default it is only printed"
        ),
    ] = None,
) -> None:
    """Compare the arms again from stored results; print tables, write the report.

    Several experiments are joined: arms on the same data are compared with each other, and tasks
    are shown side by side with aggregates over them. Their directories are not changed.
    """
    check_experiment_files(directories)
    from ntpctp.cli.actions.locations import open_location
    from ntpctp.cli.actions.results import compare_and_report, compare_joined

    locations = [open_location(text) for text in directories]
    first = locations[0].directory
    if len(locations) > 1 or not _is_experiment(first):
        compare_joined([each.directory for each in locations], format_name, everything, output)
        return
    if output is not None:
        raise InputError(
            f"--output: expected several directories; the comparison of one experiment is written "
            f"into its directory, {locations[0]}"
        )
    compare_and_report(first, format_name, everything)
    locations[0].push_files()


def report(
    where: Directory,
    figures: Annotated[
        Path | None, typer.Option(help="also write every figure to a file in this directory")
    ] = None,
    figure_format: Annotated[
        FigureFormat | None, typer.Option(help="format of these files; by default svg")
    ] = None,
) -> None:
    """Write the report again: report.html, map.html of a map, or index.html of a directory.

    The index lists all experiments below the directory: question, verdict, and a link to the
    report. It computes nothing and changes no experiment.
    """
    if figure_format is not None and figures is None:
        raise InputError("--figure-format: expected --figures with it")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise InputError(f"--figures: expected a directory, {figures} is a file")
    check_experiment_files([where])
    from ntpctp.cli.actions import results
    from ntpctp.cli.actions.locations import open_location

    location = open_location(where)
    directory = location.directory
    export = None
    if (directory / "cells.json").is_file():
        results.report_sweep(directory)
        export = results.export_sweep_figures
    elif _is_experiment(directory):
        results.compare_and_report(directory, None)
        export = results.export_figures
    elif figures is not None:
        raise InputError(
            f"--figures: expected the directory of one experiment or map, found {directory}"
        )
    else:
        results.report_index(directory)
    location.push_files()
    if figures is not None and export is not None:
        export(directory, figures, (figure_format or FigureFormat.svg).value)


def check_experiment_files(directories: Iterable[str]) -> None:
    """Check the experiment files of local directories before torch is imported.

    Raises:
        InputError: one message with all errors of the first bad file.
    """
    from ntpctp.config import load_output

    for text in directories:
        if not is_url(text) and (Path(text) / EXPERIMENT).is_file():
            load_output(Path(text))


def _is_experiment(directory: Path) -> bool:
    return (directory / EXPERIMENT).is_file() or not directory.is_dir()
