"""The commands tasks and measures, which list what an experiment file can name."""

import inspect
from pathlib import Path
from typing import Annotated

import typer

from ntpctp._core.errors import InputError, lookup
from ntpctp.cli.console import console
from ntpctp.cli.options import Offline


def tasks(
    name: Annotated[str | None, typer.Argument(help="name of a task; by default all")] = None,
    options: Annotated[
        list[str] | None, typer.Argument(help="options of the task, as key=value (digits=3)")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="number of examples to print")] = 0,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="split to print, by default train; with --export one or several splits, by "
            "default all held-out ones"
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="write splits into this directory, for lm-eval")
    ] = None,
    export_name: Annotated[
        str | None, typer.Option("--as", help="with --export: name of the exported task")
    ] = None,
    max_items: Annotated[
        int | None, typer.Option(min=1, help="with --export: only the first items of a split")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="with --export: tokenizer of the checkpoint to measure. Log-likelihoods then "
            "include its end-of-sequence token, and items that lm-eval encodes differently are "
            "counted"
        ),
    ] = None,
    offline: Offline = False,
) -> None:
    """List tasks and their options; print examples with --show, write them with --export."""
    if name is None and (show or export):
        option = "--export" if export else "--show"
        raise InputError(f"{option} needs the name of a task: ntpctp tasks addition --show 5")
    from ntpctp.config import block_of
    from ntpctp.data.tasks import TASKS

    if name is not None:
        kind = lookup(TASKS, name, "task")
        task = block_of(kind, name, options or []) if show or options or split or export else None
    from ntpctp.report.terminal import catalogue

    if name is None or task is None:
        console.print(catalogue.task_table([name] if name else []))
        return
    if export is None:
        for part in catalogue.examples_of(task, split[0] if split else "train", show or 5):
            console.print(part)
        return
    from ntpctp.data.lm_eval_export import export as write
    from ntpctp.data.tokenize import load_tokenizer
    from ntpctp.models.build import context_of
    from ntpctp.report.terminal.exports import exported_lines

    exported = write(
        task,
        export,
        split or [],
        name=export_name,
        max_items=max_items,
        tokenizer=load_tokenizer(tokenizer) if tokenizer else None,
        context=context_of(tokenizer) if tokenizer else None,
    )
    for line in exported_lines(exported, export):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def measures(
    name: Annotated[str | None, typer.Argument(help="name of a measure; by default all")] = None,
) -> None:
    """List measures and their options; with a name, also describe that measure."""
    from ntpctp.measures import MEASURES

    if name:
        lookup(MEASURES, name, "measure")
    from ntpctp.report.terminal import catalogue

    console.print(catalogue.measure_table([name] if name else []))
    if name:
        console.print(inspect.getdoc(MEASURES[name]), markup=False, highlight=False)
