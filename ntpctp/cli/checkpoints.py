"""The command evaluate, on checkpoints of any origin."""

from pathlib import Path
from typing import Annotated

import typer

from ntpctp.cli.console import clear_errors
from ntpctp.cli.options import Offline
from ntpctp.cli.results import check_experiment_files


def evaluate(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            help="directories of experiments (all runs), of runs, or of checkpoints; or any "
            "Hugging Face model"
        ),
    ],
    measures: Annotated[
        str,
        typer.Option(help="measures, comma-separated; by default those of the suite or experiment"),
    ] = "",
    suite: Annotated[
        Path | None,
        typer.Option(help="file with tasks and measures (evaluation/suites/quick.yaml)"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="directory of the results; by default beside each checkpoint"),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="also write results in the format of another tool: lm-eval"),
    ] = None,
    model_card: Annotated[
        bool,
        typer.Option("--model-card", help="also write the results into each model's README.md"),
    ] = False,
    offline: Offline = False,
) -> None:
    """Measure checkpoints of any origin; valid stored results are reused."""
    from ntpctp.config.suite import load_suite

    names = [name for name in measures.split(",") if name]
    loaded = load_suite(suite) if suite else None
    check_experiment_files(checkpoints)
    from ntpctp.report.formats import outputs
    from ntpctp.runner.evaluate_paths import evaluate_paths

    # clear_errors: typer would turn an interruption into a bare exit code before main sees it.
    with clear_errors():
        then = outputs(format_name, model_card)
        evaluate_paths(checkpoints, names, suite=loaded, output=output, then=then)
