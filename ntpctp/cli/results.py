"""Commands about what was measured: compare, report."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ntpctp._core.errors import InputError
from ntpctp.cli.console import console, errors, warn

if TYPE_CHECKING:  # the library takes seconds to import; --help does not wait for it
    from ntpctp.report.tables import TableRow
    from ntpctp.runner.location import ExperimentLocation


class Format(StrEnum):
    """How a comparison is printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


class FigureFormat(StrEnum):
    """What figures are written as."""

    svg = "svg"
    pdf = "pdf"
    png = "png"


def compare(
    directories: Annotated[
        list[str],
        typer.Argument(
            help="an experiment's directory or URL; or several, or that of a staged experiment, to "
            "be joined"
        ),
    ],
    format_name: Annotated[
        Format,
        typer.Option(
            "--format",
            help="how the comparison is printed: table for a terminal; json and csv with all "
            "scores and digits, markdown and latex rounded, each with nothing else on stdout",
        ),
    ] = Format.table,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="markdown and latex: also scores by stratum and strength, and those of which "
            "neither direction is better",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="several directories: also write the joined comparison into this file, as "
            "--format json prints it; by default it is only printed"
        ),
    ] = None,
) -> None:
    """Compare the arms anew from what is measured; show the tables, write the report.

    Several experiments are joined: arms on the same data are compared with each other, tasks stand
    side by side with aggregates over them. Their directories stay as they are.
    """
    places = [opened_location(text) for text in directories]
    first = places[0].directory
    if len(places) > 1 or not _is_experiment(first):
        _join([place.directory for place in places], format_name, everything, output)
        return
    if output is not None:
        raise InputError(
            f"--output: one experiment's comparison is written into its directory, {places[0]}"
        )
    conclude(first, format_name, everything)
    places[0].push_files()


def report(
    where: Annotated[
        str,
        typer.Argument(
            metavar="DIRECTORY", help="an experiment's directory or URL, or one with several in it"
        ),
    ],
    figures: Annotated[
        Path | None, typer.Option(help="also write every figure to a file in this directory")
    ] = None,
    figure_format: Annotated[
        FigureFormat | None, typer.Option(help="of those files; by default svg")
    ] = None,
) -> None:
    """Write report.html anew, without the tables; of a map map.html; over experiments index.html.

    The index has one row for every experiment below the directory: its question, verdict, and the
    way to its report. Nothing is computed for it and no experiment is changed.
    """
    if figure_format is not None and figures is None:
        raise InputError("--figure-format: expected --figures with it, the directory of the files")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise InputError(f"--figures: expected a directory, {figures} is a file")
    place = opened_location(where)
    directory = place.directory
    if (directory / "cells.json").is_file():
        conclude_map(directory)
        place.push_files()
        if figures is not None:
            _write_map_figures(directory, figures, (figure_format or FigureFormat.svg).value)
        return
    if _is_experiment(directory):
        conclude(directory, None)
        place.push_files()
        if figures is not None:
            _write_figures(directory, figures, (figure_format or FigureFormat.svg).value)
        return
    if figures is not None:
        raise InputError(f"--figures: expected one experiment's directory, {directory} is none")
    from ntpctp.report.html.index import write_index

    path = write_index(directory)
    place.push_files()
    console.print(f"index: {path}", highlight=False, soft_wrap=True)


def opened_location(text: str) -> "ExperimentLocation":
    """Return the place that a path or URL names, with the results that are in its store."""
    from ntpctp.runner.location import location_of

    place = location_of(text, warn)
    place.pull_results()
    return place


def _is_experiment(directory: Path) -> bool:
    return (directory / "experiment.yaml").is_file() or not directory.is_dir()


def conclude(
    directory: Path, format_name: Format | None = Format.table, everything: bool = False
) -> None:
    """Write scores, comparison and report from what is measured, and show where they are."""
    from ntpctp.analysis.comparison import read_comparison
    from ntpctp.analysis.pipeline import compare_experiment
    from ntpctp.config import load_output
    from ntpctp.report.html import write_report
    from ntpctp.report.terminal.comparisons import comparison_tables

    experiment = load_output(directory)
    frame, comparisons = compare_experiment(experiment, directory)
    path = directory / "report.html"
    write_report(experiment, frame, comparisons, directory, path)
    if format_name is Format.table:
        for renderable in comparison_tables(read_comparison(directory)):
            console.print(renderable)
    elif format_name is not None:
        from ntpctp.report.tables import comparison_rows

        _print_rows(comparison_rows(read_comparison(directory)), {}, format_name, everything)
    where = errors if format_name not in (None, Format.table) else console
    where.print(f"report: {path}", highlight=False, soft_wrap=True)


def conclude_map(directory: Path) -> None:
    """Write the page of a map from the comparisons of its cells, and say where it is."""
    from ntpctp.report.html.map_page import write_map_page

    path, summaries = write_map_page(directory)
    for words in summaries:
        console.print(words, highlight=False, soft_wrap=True)
    console.print(f"map: {path}", highlight=False, soft_wrap=True)


def _join(
    directories: list[Path], format_name: Format, everything: bool, output: Path | None
) -> None:
    """Compare several experiments from what is stored; their directories stay as they are."""
    from ntpctp._core.files import write_json
    from ntpctp.analysis.joins import join, joined_record
    from ntpctp.report.tables import comparison_rows
    from ntpctp.report.terminal.joins import joined_tables, joined_words

    record = joined_record(join(directories))
    rows = [row for group in record["groups"] for row in comparison_rows(group)]
    more = {key: value for key, value in record.items() if key != "groups"}
    more["groups"] = [
        {key: value for key, value in group.items() if key != "scores"}
        for group in record["groups"]
    ]
    if output is not None:
        write_json(output, {"rows": rows, **more})
    if format_name is Format.table:
        for renderable in joined_tables(record):
            console.print(renderable)
    else:
        _print_rows(rows, more, format_name, everything)
        if format_name is not Format.json:
            for words in joined_words(record):
                errors.print(words, markup=False, highlight=False, soft_wrap=True)


def _print_rows(
    rows: "list[TableRow]", more: dict[str, object], format_name: Format, everything: bool
) -> None:
    """Print rows and nothing else on stdout, so that it can be piped."""
    from ntpctp.report import tables

    text = {
        Format.json: lambda: tables.as_json(rows, more),
        Format.csv: lambda: tables.as_csv(rows),
        Format.markdown: lambda: tables.as_markdown(rows, everything),
        Format.latex: lambda: tables.as_latex(rows, everything),
    }[format_name]()
    if not rows:
        errors.print("one arm only: nothing to compare")
    typer.echo(text, nl=False)


def _write_figures(directory: Path, folder: Path, format_name: str) -> None:
    """Write the figures of an experiment's report, each to a file of its own."""
    from ntpctp.analysis.pipeline import compare_experiment
    from ntpctp.config import load_output
    from ntpctp.report.html.figure_files import named_panels, write_figures

    experiment = load_output(directory)
    frame, comparisons = compare_experiment(experiment, directory)
    panels = named_panels(experiment, frame, comparisons, directory)
    written = write_figures(panels, list(experiment.arms), folder, format_name)
    console.print(f"figures: {len(written)} in {folder}", highlight=False, soft_wrap=True)


def _write_map_figures(directory: Path, folder: Path, format_name: str) -> None:
    """Write the figures of a map, each to a file of its own."""
    from ntpctp.report.html.figure_files import write_figures
    from ntpctp.report.html.map_page import map_panels

    written = write_figures(map_panels(directory), [], folder, format_name)
    console.print(f"figures: {len(written)} in {folder}", highlight=False, soft_wrap=True)
