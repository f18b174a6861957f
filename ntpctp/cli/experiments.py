"""Commands about an experiment file: run, train, list, audit."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ntpctp._core.errors import InputError, lookup
from ntpctp.cli.console import OVERRIDES_HELP, Offline, clear_errors, console, errors, warn
from ntpctp.cli.results import conclude, conclude_map

if TYPE_CHECKING:  # the library takes seconds to import; --help does not wait for it
    from ntpctp.config import Experiment
    from ntpctp.config.sweep import Sweep
    from ntpctp.report.terminal.progress import ProgressDisplay
    from ntpctp.runner.engines import Engine, Failure
    from ntpctp.runner.location import ExperimentLocation


@dataclass(frozen=True)
class Where:
    """Where runs are executed, and whether failed ones are begun again."""

    on: str = "local"
    workers: int | None = None
    retry_failed: bool = False


def run(
    experiment: Annotated[Path, typer.Argument(help="the experiment file (YAML)")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="directory of the results, or the URL of a store (s3://bucket/path); by default "
            "runs/<name>"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="runs at once on this machine; by default one a core")
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            help="where runs are executed: local; ray, ray://HOST:PORT or ray:HOST:PORT; slurm "
            "(docs/scale.md)"
        ),
    ] = "local",
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed", help="begin runs again that failed, though nothing has changed"
        ),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="print what it will take, and train nothing")
    ] = False,
    flops_per_second: Annotated[
        float | None,
        typer.Option(help="with --plan: peak of the device, 312e12 for an A100 in bf16"),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="with --plan: processes, or GPUs, that share each run")
    ] = 1,
    offline: Offline = False,
) -> None:
    """Train, measure and compare all arms and seeds, stage after stage, or all cells of a map.

    Run it again to carry on after a stop.
    """
    where = Where(on, workers, retry_failed)
    if flops_per_second is not None and not 0 < flops_per_second < float("inf"):
        raise InputError(
            f"--flops-per-second: expected a finite number above 0, found {flops_per_second}"
        )
    if plan:
        _plan(experiment, overrides or [], workers, flops_per_second, processes)
        return
    from ntpctp.config import load_experiment
    from ntpctp.config.stages import load_stages
    from ntpctp.config.sweep import load_sweep
    from ntpctp.runner.stages import prepare_stages

    if found := load_sweep(experiment, overrides or []):
        _run_map(found, _place(output, found.name), where)
        return
    stages = load_stages(experiment, overrides or [])
    if stages is None:
        settings = load_experiment(experiment, overrides or [])
        _run(settings, _place(output, settings.name), where)
        return
    place = _place(output, stages.name)
    stages = prepare_stages(stages, place.directory)
    for stage, of_stage in stages.experiments(place.directory).items():
        _run(of_stage, place.inside(stage), where)


def _place(output: str | None, name: str) -> "ExperimentLocation":
    from ntpctp.runner.location import location_of

    return location_of(output or Path("runs") / name, warn)


def _run_map(found: "Sweep", place: "ExperimentLocation", where: Where) -> None:
    """Do all cells of a map, whether or not some of their runs fail, then write its page."""
    from ntpctp.config.sweep import write_levels
    from ntpctp.runner.budget import with_steps
    from ntpctp.runner.experiment import (
        run_concurrently,
    )
    from ntpctp.runner.prepare import encoded_beside, prepare

    whole, cells = place.directory, {}
    for cell, settings in found.experiments.items():
        # What is wrong with the last cell shows before the first is trained.
        cells[cell] = with_steps(settings, encoded_beside(whole / cell))
        prepare(cells[cell], encoded_beside(whole / cell))
    write_levels(found, whole)
    failed = []

    def over(cell: str, failures: "Mapping[str, Failure]") -> None:
        console.rule(cell)
        _tell(failures, len(cells[cell].runs()))
        try:
            conclude(whole / cell)
        except InputError as error:  # of this cell alone: the others go on
            errors.print(f"[red]{cell}:[/] ", end="")
            errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
            failed.append(cell)
        else:
            failed.extend([cell] * bool(failures))
        place.inside(cell).push_files()

    with _at_work(found.name, cells, place, where) as (engine, display):
        run_concurrently(
            cells,
            {cell: place.inside(cell) for cell in cells},
            engine=engine,
            on_event=lambda cell, event: display.show(event, cell),
            on_finished=over,
            retry_failed=where.retry_failed,
        )
    conclude_map(whole)
    place.push_files()
    if failed:
        errors.print(f"not complete: {', '.join(failed)}. The same command carries on.")
        raise typer.Exit(1)


def _plan(
    path: Path,
    overrides: list[str],
    workers: int | None,
    flops_per_second: float | None,
    processes: int,
) -> None:
    """Print what an experiment, each of its stages, or all cells of a map will take."""
    import torch

    from ntpctp.config import load_experiment
    from ntpctp.config.stages import load_stages
    from ntpctp.config.sweep import load_sweep
    from ntpctp.report.terminal.plans import map_plan_table, plan_table, plan_time
    from ntpctp.runner.budget import with_steps
    from ntpctp.runner.experiment import (
        default_workers,
    )
    from ntpctp.runner.plan import matmul_rate, plan
    from ntpctp.runner.prepare import prepare

    torch.set_num_threads(1)
    found = load_sweep(path, overrides)
    stages = None if found else load_stages(path, overrides)
    chosen = {"": load_experiment(path, overrides)} if not found and not stages else {}
    chosen |= stages.from_scratch() if stages else {}
    chosen |= found.experiments if found else {}
    rate = flops_per_second or matmul_rate()
    # Runs that have a device, or several, to themselves follow one another.
    alone = flops_per_second is not None or processes > 1
    resources = next(iter(chosen.values())).resources
    side_by_side = workers or (1 if alone else default_workers(resources))

    def time(flops: float, num_runs: int) -> str:
        num_workers = min(side_by_side, num_runs)
        return plan_time(flops, rate, num_workers, processes, flops_per_second is None)

    planned = []
    for part, of_part in chosen.items():
        settings = with_steps(of_part)
        plans = plan(settings, prepare(settings), processes)
        num_arms = stages.num_arms(part) if stages else dict.fromkeys(plans, 1)
        num_runs = {arm: number * len(settings.seeds) for arm, number in num_arms.items()}
        planned.append((plans, num_runs))
        if found:
            continue
        if part:
            console.rule(f"stage {part}")
        console.print(plan_table(plans, num_runs))
        flops = sum(num_runs[arm] * arm_plan.flops for arm, arm_plan in plans.items())
        console.print(time(flops, sum(num_runs.values())), soft_wrap=True)
    if found:
        console.print(map_plan_table(found.levels, planned))
        whole = [
            sum(num_runs[arm] * arm_plan.flops for arm, arm_plan in plans.items())
            for plans, num_runs in planned
        ]
        console.print(time(sum(whole), sum(planned[0][1].values())), soft_wrap=True)


def _run(settings: "Experiment", place: "ExperimentLocation", where: Where) -> None:
    """Do all runs of an experiment, compare them, and end the program if some failed."""
    from ntpctp.runner.budget import with_steps
    from ntpctp.runner.prepare import encoded_beside

    directory = place.directory
    settings = with_steps(settings, encoded_beside(directory))
    train_all(settings, place, where, then=lambda: conclude(directory))


def train_all(
    settings: "Experiment",
    place: "ExperimentLocation",
    where: Where,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Do all runs of an experiment, then something else, and end the program if some failed."""
    from ntpctp.runner.experiment import (
        run_experiment,
    )

    with _at_work(settings.name, {"": settings}, place, where) as (engine, display):
        failures = run_experiment(
            settings,
            place,
            engine=engine,
            on_event=display.show,
            retry_failed=where.retry_failed,
        )
    _tell(failures, len(settings.runs()))
    then()
    place.push_files()
    if failures:
        raise typer.Exit(1)


@contextmanager
def _at_work(
    name: str, experiments: "Mapping[str, Experiment]", place: "ExperimentLocation", where: Where
) -> "Iterator[tuple[Engine, ProgressDisplay]]":
    """Say what will be done and give the engine for it, and the display of what it tells."""
    from ntpctp._core import signals
    from ntpctp.report.terminal.plans import plan
    from ntpctp.report.terminal.progress import ProgressDisplay
    from ntpctp.runner.engines import engine_named
    from ntpctp.runner.experiment import (
        local_engine,
    )

    local = local_engine(experiments.values(), where.workers)
    # Of a store, the copy is this machine's alone.
    submissions = place.directory if place.store is None else Path("runs") / name
    engine = engine_named(where.on, submissions, local)
    of_threads = "one thread" if local.threads == 1 else f"{local.threads} threads"
    here = f"{local.workers} at once, {of_threads} each"
    how = here if engine is local else f"on {where.on}"
    console.print(plan(name, list(experiments.values()), str(place), how))
    # clear_errors: typer would turn an interruption into exit code 1 before main sees it.
    # at_once: what was imported before may have caught a request to stop.
    with (
        clear_errors(),
        signals.at_once(),
        ProgressDisplay(console, experiments) as display,
    ):
        yield engine, display


def _tell(failures: "Mapping[str, Failure]", num_runs: int) -> None:
    """Say which of an experiment's runs failed, and what to do about it."""
    if not failures:
        return
    for name, failure in failures.items():
        errors.print(f"[red]failed:[/] {name}: ", end="")
        errors.print(failure.traceback or failure.message, markup=False, highlight=False)
    by_itself = any(not failure.of_machine for failure in failures.values())
    also = "; with --retry-failed, also with runs that failed by themselves" * by_itself
    errors.print(
        f"{len(failures)} of {num_runs} runs failed; the others are complete. The same command "
        f"carries on{also}."
    )


def train(
    experiment: Annotated[Path, typer.Argument(help="the experiment file (YAML)")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    arm: Annotated[str, typer.Option(help="which arm of the experiment")] = "",
    seed: Annotated[int, typer.Option(min=0, help="which seed")] = 0,
    stage: Annotated[
        str | None, typer.Option(help="which stage, if the experiment has stages")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="by default runs/<name>")] = None,
    offline: Offline = False,
) -> None:
    """Train one arm with one seed in this process (what recipes/train.py launches)."""
    from ntpctp.runner.train_one import train_one

    train_one(experiment, overrides or [], arm, seed, output, stage)


def list_runs(
    experiment: Annotated[Path, typer.Argument(help="the experiment file (YAML)")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    stage: Annotated[str | None, typer.Option(help="the runs of this stage alone")] = None,
) -> None:
    """Print all runs, one a line, as the arguments of recipes/train.py: for scripts and arrays."""
    from ntpctp.runner.train_one import runs_in

    runs = runs_in(experiment, overrides or [])
    if stage is not None:
        if runs[0][0] is None:
            raise InputError(f"--stage {stage}: {experiment} has no stages; leave it out")
        lookup({str(of_stage): None for of_stage, _ in runs}, stage, "stage")
    for of_stage, run_id in runs:
        if stage in (None, of_stage):
            named = f"--stage {of_stage} " if of_stage else ""
            typer.echo(f"{named}--arm {run_id.arm} --seed {run_id.seed}")


def audit(
    experiment: Annotated[Path, typer.Argument(help="the experiment file (YAML)")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    examples: Annotated[int, typer.Option(min=0, help="how many to print")] = 3,
    json: Annotated[bool, typer.Option("--json", help="the counts for machines")] = False,
    offline: Offline = False,
) -> None:
    """Show what the loss sees: the first examples token by token for every arm, and counts."""
    from ntpctp.config import load_experiment
    from ntpctp.config.stages import load_stages
    from ntpctp.report.terminal.supervision import audit_tables, weighted_tokens
    from ntpctp.runner.audit import audit as count
    from ntpctp.runner.audit import first_tokens
    from ntpctp.runner.prepare import prepare

    stages = load_stages(experiment, overrides or [])
    if stages is None:
        chosen = {"": load_experiment(experiment, overrides or [])}
    else:
        chosen = stages.from_scratch()
    prepared = {stage: prepare(settings) for stage, settings in chosen.items()}
    records = {stage: count(settings, prepared[stage]) for stage, settings in chosen.items()}
    if json:
        console.print_json(data=records if stages else records[""])
        return
    for stage, settings in chosen.items():
        if stages:
            console.rule(f"stage {stage}")
        for tokens in first_tokens(settings, prepared[stage], examples):
            console.print(
                weighted_tokens(list(settings.arms), tokens, console.color_system is not None),
                soft_wrap=True,
            )
        for table in audit_tables(records[stage]):
            console.print(table)
