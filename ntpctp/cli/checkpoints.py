"""The command evaluate, for checkpoints whoever trained them."""

from pathlib import Path
from typing import Annotated

import typer

from ntpctp.cli.console import Offline, clear_errors


def evaluate(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            help="experiment directories (all runs), runs, checkpoints in them, or any Hugging "
            "Face checkpoints"
        ),
    ],
    measures: Annotated[
        str, typer.Option(help="comma-separated; by default those of the suite or the experiment")
    ] = "",
    suite: Annotated[
        Path | None, typer.Option(help="tasks and measures (evaluation/suites/quick.yaml)")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="directory of the results; by default beside checkpoints")
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="also write results as another tool does: lm-eval"),
    ] = None,
    model_card: Annotated[
        bool, typer.Option("--model-card", help="also write results into each README.md")
    ] = False,
    offline: Offline = False,
) -> None:
    """Measure checkpoints, whoever trained them; what is stored and holds is kept."""
    from ntpctp.config.suite import load_suite
    from ntpctp.report.formats import outputs
    from ntpctp.runner.evaluate_paths import evaluate_paths

    # clear_errors: typer would turn an interruption into a bare exit code before main sees it.
    with clear_errors():
        evaluate_paths(
            checkpoints,
            [name for name in measures.split(",") if name],
            suite=load_suite(suite) if suite else None,
            output=output,
            then=outputs(format_name, model_card),
        )
