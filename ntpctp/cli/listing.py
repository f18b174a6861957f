"""Commands that list what there is: tasks, measures."""

from pathlib import Path
from typing import Annotated

import typer

from ntpctp._core.errors import InputError
from ntpctp.cli.console import Offline, console


def tasks(
    name: Annotated[str | None, typer.Argument(help="one task; by default all")] = None,
    options: Annotated[
        list[str] | None, typer.Argument(help="of the task, as key=value (digits=3)")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="how many examples to print")] = 0,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help="the split they are from, by default train; with --export several, by default all "
            "held-out ones"
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="write splits into this directory, for lm-eval")
    ] = None,
    export_name: Annotated[
        str | None, typer.Option("--as", help="with --export: a name for the task")
    ] = None,
    max_items: Annotated[
        int | None, typer.Option(min=1, help="with --export: the first items of a split")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="with --export: of the checkpoint to measure; log-likelihoods then count its end "
            "of sequence, and items that lm-eval encodes in another way are counted"
        ),
    ] = None,
    offline: Offline = False,
) -> None:
    """List the tasks and their options; print examples with --show, write them with --export."""
    from ntpctp.report.terminal import catalogue

    if name is None:
        if show or export:
            option = "--export" if export else "--show"
            raise InputError(f"{option} needs the name of a task: ntpctp tasks addition --show 5")
        console.print(catalogue.task_table())
        return
    if export is not None:
        from ntpctp.data.lm_eval_export import export as write
        from ntpctp.data.tokenize import load_tokenizer
        from ntpctp.models.build import context_of

        exported = write(
            catalogue.task_of(name, options or []),
            export,
            split or [],
            name=export_name,
            max_items=max_items,
            tokenizer=load_tokenizer(tokenizer) if tokenizer else None,
            context=context_of(tokenizer) if tokenizer else None,
        )
        for line in catalogue.exported_lines(exported, export):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    elif show or options or split:
        first = split[0] if split else "train"
        for part in catalogue.examples_of(catalogue.task_of(name, options or []), first, show or 5):
            console.print(part)
    else:
        console.print(catalogue.task_table([name]))


def measures(
    name: Annotated[str | None, typer.Argument(help="one measure; by default all")] = None,
) -> None:
    """List the measures and their options; with a name, what it measures, too."""
    import inspect

    from ntpctp.measures import MEASURES
    from ntpctp.report.terminal import catalogue

    console.print(catalogue.measure_table([name] if name else []))
    if name:
        console.print(inspect.getdoc(MEASURES[name]), markup=False, highlight=False)
