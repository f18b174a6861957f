"""Run an experiment file: train, measure, compare."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from ntpctp._core import signals
from ntpctp._core.errors import InputError
from ntpctp.cli.actions.results import compare_and_report, report_sweep
from ntpctp.cli.console import clear_errors, console, errors, warn
from ntpctp.config import Experiment
from ntpctp.config.stages import Stages
from ntpctp.config.sweep import Sweep, write_levels
from ntpctp.report.terminal.plans import plan
from ntpctp.report.terminal.progress import ProgressDisplay
from ntpctp.runner.budget import with_steps
from ntpctp.runner.engines import Engine, Failure, engine_named
from ntpctp.runner.experiment import local_engine, run_concurrently, run_experiment
from ntpctp.runner.location import ExperimentLocation, location_of
from ntpctp.runner.prepare import encoded_beside, prepare
from ntpctp.runner.stages import prepare_stages


@dataclass(frozen=True)
class RunOptions:
    """Where runs are executed, and whether failed runs are restarted.

    Attributes:
        on: name of the engine, as ``--on`` takes it.
        workers: concurrent runs on this machine; None: one for each core.
        retry_failed: restart also runs that failed with an error of their own.
    """

    on: str = "local"
    workers: int | None = None
    retry_failed: bool = False


def run_loaded(
    loaded: Experiment | Stages | Sweep, output: str | Path, options: RunOptions
) -> None:
    """Run an experiment, all stages of one, or all cells of a sweep.

    Args:
        loaded: the experiment file.
        output: directory or URL of the results.
        options: where and how.

    Raises:
        typer.Exit: with code 1 if a run failed.
        InputError: for data, options or an output that cannot be used.
    """
    location = location_of(output, warn)
    if isinstance(loaded, Sweep):
        _run_sweep(loaded, location, options)
    elif isinstance(loaded, Stages):
        stages = prepare_stages(loaded, location.directory)
        for stage, experiment in stages.experiments(location.directory).items():
            _run(experiment, location.inside(stage), options)
    else:
        _run(loaded, location, options)


def _run(experiment: Experiment, location: ExperimentLocation, options: RunOptions) -> None:
    """Execute all runs of an experiment and compare its arms; exit with code 1 if a run failed."""
    experiment = with_steps(experiment, encoded_beside(location.directory))
    failed = execute_runs(experiment, location, options)
    compare_and_report(location.directory)
    location.push_files()
    if failed:
        raise typer.Exit(1)


def execute_runs(experiment: Experiment, location: ExperimentLocation, options: RunOptions) -> bool:
    """Execute all runs of an experiment and report those that failed.

    Returns:
        Whether a run failed.
    """
    with _progress(experiment.name, {"": experiment}, location, options) as (engine, display):
        failures = run_experiment(
            experiment,
            location,
            engine=engine,
            on_event=display.show,
            retry_failed=options.retry_failed,
        )
    _print_failures(failures, len(experiment.runs()))
    return bool(failures)


def _run_sweep(sweep: Sweep, location: ExperimentLocation, options: RunOptions) -> None:
    """Run all cells of a sweep, also if runs of some fail, and write the page of the map."""
    whole, cells = location.directory, {}
    for cell, experiment in sweep.experiments.items():
        # Errors in the data of the last cell show before the first cell is trained.
        cells[cell] = with_steps(experiment, encoded_beside(whole / cell))
        prepare(cells[cell], encoded_beside(whole / cell))
    write_levels(sweep, whole)
    incomplete = []

    def finish(cell: str, failures: Mapping[str, Failure]) -> None:
        console.rule(cell)
        _print_failures(failures, len(cells[cell].runs()))
        try:
            compare_and_report(whole / cell)
        except InputError as error:  # of this cell alone: the others continue
            errors.print(f"[red]{cell}:[/] ", end="")
            errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
            incomplete.append(cell)
        else:
            incomplete.extend([cell] * bool(failures))
        location.inside(cell).push_files()

    with _progress(sweep.name, cells, location, options) as (engine, display):
        run_concurrently(
            cells,
            {cell: location.inside(cell) for cell in cells},
            engine=engine,
            on_event=lambda cell, event: display.show(event, cell),
            on_finished=finish,
            retry_failed=options.retry_failed,
        )
    report_sweep(whole)
    location.push_files()
    if incomplete:
        errors.print(
            f"incomplete cells: {', '.join(incomplete)}. Run the same command again to resume."
        )
        raise typer.Exit(1)


@contextmanager
def _progress(
    name: str,
    experiments: Mapping[str, Experiment],
    location: ExperimentLocation,
    options: RunOptions,
) -> Iterator[tuple[Engine, ProgressDisplay]]:
    """Print a summary of the runs; yield their engine and the display of their progress."""
    local = local_engine(experiments.values(), options.workers)
    # The local copy of a store is not shared with other machines, so jobs are not submitted there.
    submissions = location.directory if location.store is None else Path("runs") / name
    engine = engine_named(options.on, submissions, local)
    threads = "one thread" if local.threads == 1 else f"{local.threads} threads"
    how = f"{local.workers} at once, {threads} each" if engine is local else f"on {options.on}"
    console.print(plan(name, list(experiments.values()), str(location), how))
    # clear_errors: typer would turn an interruption into exit code 1 before main sees it.
    # at_once: an import before this line may have swallowed a request to stop.
    with (
        clear_errors(),
        signals.at_once(),
        ProgressDisplay(console, experiments) as display,
    ):
        yield engine, display


def _print_failures(failures: Mapping[str, Failure], num_runs: int) -> None:
    """Print which runs of an experiment failed, why, and how to resume."""
    if not failures:
        return
    for name, failure in failures.items():
        errors.print(f"[red]failed:[/] {name}: ", end="")
        errors.print(failure.traceback or failure.message, markup=False, highlight=False)
    advice = "Run the same command again to resume."
    if any(not failure.of_machine for failure in failures.values()):
        advice += " --retry-failed also restarts runs that failed with an error of their own."
    errors.print(f"{len(failures)} of {num_runs} runs failed; the others are complete. {advice}")
