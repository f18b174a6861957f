"""Compare what was measured; print tables, write reports and figures."""

from collections.abc import Sequence
from pathlib import Path

import typer

from ntpctp._core.files import write_json
from ntpctp.analysis.comparison import read_comparison
from ntpctp.analysis.joins import join, joined_record
from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.cli.console import console, errors
from ntpctp.cli.options import Format
from ntpctp.config import load_output
from ntpctp.report import tables
from ntpctp.report.html import write_report
from ntpctp.report.html.figure_files import named_panels, write_figures
from ntpctp.report.html.index import write_index
from ntpctp.report.html.map_page import map_panels, write_map_page
from ntpctp.report.tables import TableRow, comparison_rows
from ntpctp.report.terminal.comparisons import comparison_tables
from ntpctp.report.terminal.joins import joined_tables, joined_words


def compare_and_report(
    directory: Path, format_name: Format | None = Format.table, everything: bool = False
) -> None:
    """Write scores, comparison and report of an experiment, and print the comparison.

    Args:
        directory: of the experiment.
        format_name: of the printed comparison; None: print only the path of the report.
        everything: also rows that Markdown and LaTeX leave out.
    """
    experiment = load_output(directory)
    frame, comparisons = compare_experiment(experiment, directory)
    path = directory / "report.html"
    write_report(experiment, frame, comparisons, directory, path)
    if format_name is Format.table:
        for renderable in comparison_tables(read_comparison(directory)):
            console.print(renderable)
    elif format_name is not None:
        _print_rows(comparison_rows(read_comparison(directory)), {}, format_name, everything)
    # Formats for other programs leave stdout to the rows.
    printer = errors if format_name not in (None, Format.table) else console
    printer.print(f"report: {path}", highlight=False, soft_wrap=True)


def report_sweep(directory: Path) -> None:
    """Write the page of a sweep from the comparisons of its cells, and print a summary."""
    path, summaries = write_map_page(directory)
    for summary in summaries:
        console.print(summary, highlight=False, soft_wrap=True)
    console.print(f"map: {path}", highlight=False, soft_wrap=True)


def report_index(directory: Path) -> None:
    """Write an index of the reports of all experiments below a directory."""
    path = write_index(directory)
    console.print(f"index: {path}", highlight=False, soft_wrap=True)


def compare_joined(
    directories: Sequence[Path], format_name: Format, everything: bool, output: Path | None
) -> None:
    """Compare several experiments from stored results; their directories are not changed.

    Args:
        directories: of the experiments.
        format_name: of the printed comparison.
        everything: also rows that Markdown and LaTeX leave out.
        output: JSON file for the joined comparison; None: only print it.
    """
    record = joined_record(join(list(directories)))
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
    rows: list[TableRow], more: dict[str, object], format_name: Format, everything: bool
) -> None:
    """Print rows and nothing else on stdout, so that it can be piped."""
    text = {
        Format.json: lambda: tables.as_json(rows, more),
        Format.csv: lambda: tables.as_csv(rows),
        Format.markdown: lambda: tables.as_markdown(rows, everything),
        Format.latex: lambda: tables.as_latex(rows, everything),
    }[format_name]()
    if not rows:
        errors.print("one arm only: nothing to compare")
    typer.echo(text, nl=False)


def export_figures(directory: Path, folder: Path, format_name: str) -> None:
    """Write every figure of an experiment's report to a file in ``folder``."""
    experiment = load_output(directory)
    frame, comparisons = compare_experiment(experiment, directory)
    panels = named_panels(experiment, frame, comparisons, directory)
    written = write_figures(panels, list(experiment.arms), folder, format_name)
    console.print(f"figures: {len(written)} in {folder}", highlight=False, soft_wrap=True)


def export_sweep_figures(directory: Path, folder: Path, format_name: str) -> None:
    """Write every figure of a sweep's page to a file in ``folder``."""
    written = write_figures(map_panels(directory), [], folder, format_name)
    console.print(f"figures: {len(written)} in {folder}", highlight=False, soft_wrap=True)
