"""The ``ntpctp`` command."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ntpctp.errors import InputError
from ntpctp.libraries import quiet_libraries

if TYPE_CHECKING:  # the library takes seconds to import; --help does not wait for it
    from ntpctp.experiment import Experiment
    from ntpctp.tidy import Row


class Format(StrEnum):
    """How a comparison is printed."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


app = typer.Typer(
    help="Which tokens should the loss see? Train a model under several objectives that differ in "
    "nothing else, measure every checkpoint, and compare with uncertainty.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()
errors = Console(stderr=True)


class FigureFormat(StrEnum):
    """What figures are written as."""

    svg = "svg"
    pdf = "pdf"
    png = "png"


_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
OVERRIDES_HELP = "fields to change, as dotted.key=value (training.steps=500 seeds=5)"


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="the experiment file (YAML)")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    output: Annotated[
        Path | None, typer.Option(help="directory of the results; by default runs/<name>")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="runs at once; by default one a core")
    ] = None,
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
) -> None:
    """Train, measure and compare all arms and seeds, stage after stage where the file has stages.

    Run it again to carry on after a stop.
    """
    if plan:
        _plan(experiment, overrides or [], workers, flops_per_second, processes)
        return
    from ntpctp import pipeline
    from ntpctp.experiment import load_experiment
    from ntpctp.stages import load_stages

    stages = load_stages(experiment, overrides or [])
    if stages is None:
        settings = load_experiment(experiment, overrides or [])
        _run(settings, output or Path("runs") / settings.name, workers)
        return
    whole = output or Path("runs") / stages.name
    stages = pipeline.checked_stages(stages, whole)
    for stage, of_stage in stages.experiments(whole).items():
        _run(of_stage, whole / stage, workers)


def _plan(
    path: Path,
    overrides: list[str],
    workers: int | None,
    flops_per_second: float | None,
    processes: int,
) -> None:
    """Print what an experiment, or each of its stages, will take."""
    import torch

    from ntpctp import pipeline, terminal
    from ntpctp.budgets import with_steps
    from ntpctp.experiment import load_experiment
    from ntpctp.plan import matmul_rate, plan
    from ntpctp.preparation import prepare
    from ntpctp.stages import load_stages

    torch.set_num_threads(1)
    stages = load_stages(path, overrides)
    chosen = stages.from_scratch() if stages else {"": load_experiment(path, overrides)}
    rate = flops_per_second or matmul_rate()
    for stage, of_stage in chosen.items():
        settings = with_steps(of_stage)
        plans = plan(settings, prepare(settings), processes)
        num_arms = stages.num_arms(stage) if stages else dict.fromkeys(plans, 1)
        num_runs = {arm: number * len(settings.seeds) for arm, number in num_arms.items()}
        # Runs that have a device, or several, to themselves follow one another.
        alone = flops_per_second is not None or processes > 1
        side_by_side = workers or (1 if alone else pipeline.default_workers())
        num_workers = min(side_by_side, sum(num_runs.values()))
        if stage:
            console.rule(f"stage {stage}")
        console.print(terminal.plan_table(plans, num_runs))
        flops = sum(num_runs[arm] * arm_plan.flops for arm, arm_plan in plans.items())
        console.print(
            terminal.plan_time(flops, rate, num_workers, processes, flops_per_second is None),
            soft_wrap=True,
        )


def _run(settings: "Experiment", directory: Path, workers: int | None) -> None:
    """Do all runs of an experiment, compare them, and end the program if some failed."""
    from ntpctp.budgets import with_steps
    from ntpctp.preparation import encoded_beside

    settings = with_steps(settings, encoded_beside(directory))
    _train_all(settings, directory, workers, then=lambda: _conclude(directory))


def _train_all(
    settings: "Experiment",
    directory: Path,
    workers: int | None,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Do all runs of an experiment, then something else, and end the program if some failed."""
    from ntpctp import pipeline, terminal

    num_workers = min(workers or pipeline.default_workers(), len(pipeline.runs_of(settings)))
    console.print(terminal.plan(settings, directory, num_workers))
    # clear_errors: typer would turn an interruption into exit code 1 before main sees it.
    with clear_errors(), terminal.ProgressDisplay(console, settings) as display:
        failures = pipeline.run_experiment(
            settings, directory, num_workers=num_workers, on_event=display.show
        )
    if failures:
        for name, failure in failures.items():
            errors.print(f"[red]failed:[/] {name}: ", end="")
            errors.print(failure.traceback or failure.message, markup=False, highlight=False)
        errors.print(
            f"{len(failures)} of {len(pipeline.runs_of(settings))} runs failed; the others are "
            "complete. The same command carries on."
        )
    then()
    if failures:
        raise typer.Exit(1)


@app.command()
def train(
    experiment: Annotated[Path, typer.Argument(help="the experiment file (YAML)")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    arm: Annotated[str, typer.Option(help="which arm of the experiment")] = "",
    seed: Annotated[int, typer.Option(min=0, help="which seed")] = 0,
    stage: Annotated[
        str | None, typer.Option(help="which stage, if the experiment has stages")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="by default runs/<name>")] = None,
) -> None:
    """Train one arm with one seed in this process (what recipes/train.py launches)."""
    from ntpctp.launch import train_one

    train_one(experiment, overrides or [], arm, seed, output, stage)


@app.command("list")
def list_runs(
    experiment: Annotated[Path, typer.Argument(help="the experiment file (YAML)")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    stage: Annotated[str | None, typer.Option(help="the runs of this stage alone")] = None,
) -> None:
    """Print all runs, one a line, as the arguments of recipes/train.py: for scripts and arrays."""
    from ntpctp.launch import runs_in

    for of_stage, run_id in runs_in(experiment, overrides or []):
        if stage in (None, of_stage):
            named = f"--stage {of_stage} " if of_stage else ""
            typer.echo(f"{named}--arm {run_id.arm} --seed {run_id.seed}")


@app.command()
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
) -> None:
    """Measure checkpoints, whoever trained them; what is stored and holds is kept."""
    from ntpctp.measuring import evaluate_paths
    from ntpctp.outputs import outputs
    from ntpctp.suites import load_suite

    # clear_errors: typer would turn an interruption into a bare exit code before main sees it.
    with clear_errors():
        evaluate_paths(
            checkpoints,
            [name for name in measures.split(",") if name],
            suite=load_suite(suite) if suite else None,
            output=output,
            then=outputs(format_name, model_card),
        )


@app.command()
def compare(
    directories: Annotated[
        list[Path],
        typer.Argument(
            help="an experiment's directory; or several, or that of a staged experiment, to be "
            "joined"
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
    if len(directories) > 1 or not _is_experiment(directories[0]):
        _join(directories, format_name, everything, output)
        return
    if output is not None:
        raise InputError(
            f"--output: one experiment's comparison is written into its directory, {directories[0]}"
        )
    _conclude(directories[0], format_name, everything)


@app.command()
def report(
    directory: Annotated[
        Path, typer.Argument(help="an experiment's directory, or one with several in it")
    ],
    figures: Annotated[
        Path | None, typer.Option(help="also write every figure to a file in this directory")
    ] = None,
    figure_format: Annotated[FigureFormat, typer.Option(help="of those files")] = FigureFormat.svg,
) -> None:
    """Write report.html anew, without the tables; over several experiments, index.html.

    The index has one row for every experiment below the directory: its question, verdict, and the
    way to its report. Nothing is computed for it and no experiment is changed.
    """
    if _is_experiment(directory):
        _conclude(directory, None)
        if figures is not None:
            _write_figures(directory, figures, figure_format.value)
        return
    if figures is not None:
        raise InputError(f"--figures: expected one experiment's directory, {directory} is none")
    from ntpctp.report.index import write_index

    path = write_index(directory)
    console.print(f"index: {path}", highlight=False, soft_wrap=True)


def _is_experiment(directory: Path) -> bool:
    return (directory / "experiment.yaml").is_file() or not directory.is_dir()


@app.command()
def calibrate(
    directory: Annotated[Path, typer.Argument(help="an experiment's directory")],
    train: Annotated[
        int | None,
        typer.Option(
            min=1, help="first train every arm with this many seeds more, in DIRECTORY/calibration"
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="with --train: runs at once; by default one a core")
    ] = None,
) -> None:
    """Prove the verdicts honest on the experiment's own runs.

    How often is an arm called different from itself, and how often does the interval of two arms
    hold a difference that is known?
    """
    from ntpctp import calibrating, pipeline, terminal

    if train is not None:
        fresh = calibrating.with_fresh_seeds(pipeline.load_output(directory), train)
        _train_all(fresh, directory / calibrating.TRAINED, workers)
    record = calibrating.calibrate(directory)
    calibrating.write_calibration(record, directory)
    for renderable in terminal.calibration_tables(record):
        console.print(renderable)
    _conclude(directory, None)


@app.command()
def audit(
    experiment: Annotated[Path, typer.Argument(help="the experiment file (YAML)")],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP)] = None,
    examples: Annotated[int, typer.Option(min=0, help="how many to print")] = 3,
    json: Annotated[bool, typer.Option("--json", help="the counts for machines")] = False,
) -> None:
    """Show what the loss sees: the first examples token by token for every arm, and counts."""
    from ntpctp import terminal
    from ntpctp.audit import audit as count
    from ntpctp.audit import first_tokens
    from ntpctp.experiment import load_experiment
    from ntpctp.preparation import prepare
    from ntpctp.stages import load_stages

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
                terminal.weighted_tokens(
                    list(settings.arms), tokens, console.color_system is not None
                ),
                soft_wrap=True,
            )
        for table in terminal.audit_tables(records[stage]):
            console.print(table)


@app.command()
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
) -> None:
    """List the tasks and their options; print examples with --show, write them with --export."""
    from ntpctp import catalogue

    if name is None:
        if show or export:
            option = "--export" if export else "--show"
            raise InputError(f"{option} needs the name of a task: ntpctp tasks addition --show 5")
        console.print(catalogue.task_table())
        return
    if export is not None:
        from ntpctp.lm_eval_export import export as write
        from ntpctp.models import context_of
        from ntpctp.tokens import load_tokenizer

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


@app.command()
def measures(
    name: Annotated[str | None, typer.Argument(help="one measure; by default all")] = None,
) -> None:
    """List the measures and their options; with a name, what it measures, too."""
    import inspect

    from ntpctp import catalogue
    from ntpctp.measures import MEASURES

    console.print(catalogue.measure_table([name] if name else []))
    if name:
        console.print(inspect.getdoc(MEASURES[name]), markup=False, highlight=False)


def _conclude(
    directory: Path, format_name: Format | None = Format.table, everything: bool = False
) -> None:
    """Write scores, comparison and report from what is measured, and show where they are."""
    from ntpctp import pipeline, terminal
    from ntpctp.comparison import read_comparison
    from ntpctp.report import write_report

    experiment = pipeline.load_output(directory)
    frame, comparisons = pipeline.compare_experiment(experiment, directory)
    path = directory / "report.html"
    write_report(experiment, frame, comparisons, directory, path)
    if format_name is Format.table:
        for renderable in terminal.comparison_tables(read_comparison(directory)):
            console.print(renderable)
    elif format_name is not None:
        from ntpctp.tidy import tidy_rows

        _print_rows(tidy_rows(read_comparison(directory)), {}, format_name, everything)
    where = errors if format_name not in (None, Format.table) else console
    where.print(f"report: {path}", highlight=False, soft_wrap=True)


def _join(
    directories: list[Path], format_name: Format, everything: bool, output: Path | None
) -> None:
    """Compare several experiments from what is stored; their directories stay as they are."""
    from ntpctp import terminal
    from ntpctp.joining import join, joined_record
    from ntpctp.storage import write_json
    from ntpctp.tidy import tidy_rows

    record = joined_record(join(directories))
    rows = [row for group in record["groups"] for row in tidy_rows(group)]
    more = {key: value for key, value in record.items() if key != "groups"}
    more["groups"] = [
        {key: value for key, value in group.items() if key != "scores"}
        for group in record["groups"]
    ]
    if output is not None:
        write_json(output, {"rows": rows, **more})
    if format_name is Format.table:
        for renderable in terminal.joined_tables(record):
            console.print(renderable)
    else:
        _print_rows(rows, more, format_name, everything)
        if format_name is not Format.json:
            for words in terminal.joined_words(record):
                errors.print(words, markup=False, highlight=False, soft_wrap=True)


def _print_rows(
    rows: "list[Row]", more: dict[str, object], format_name: Format, everything: bool
) -> None:
    """Print rows and nothing else on stdout, so that it can be piped."""
    from ntpctp import tidy

    text = {
        Format.json: lambda: tidy.as_json(rows, more),
        Format.csv: lambda: tidy.as_csv(rows),
        Format.markdown: lambda: tidy.as_markdown(rows, everything),
        Format.latex: lambda: tidy.as_latex(rows, everything),
    }[format_name]()
    if not rows:
        errors.print("one arm only: nothing to compare")
    typer.echo(text, nl=False)


def _write_figures(directory: Path, folder: Path, format_name: str) -> None:
    """Write the figures of an experiment's report, each to a file of its own."""
    from ntpctp import pipeline
    from ntpctp.report.figure_files import named_panels, write_figures

    experiment = pipeline.load_output(directory)
    frame, comparisons = pipeline.compare_experiment(experiment, directory)
    panels = named_panels(experiment, frame, comparisons, directory)
    written = write_figures(panels, list(experiment.arms), folder, format_name)
    console.print(f"figures: {len(written)} in {folder}", highlight=False, soft_wrap=True)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print what the user can mend in plain words; exit code 2 for bad input, 1 for the disk."""
    try:
        yield
    except (InputError, OSError) as error:
        errors.print("[bold red]error:[/] ", end="")
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            errors.print("choose an --output that can be written; what is finished is kept")
        raise SystemExit(2 if isinstance(error, InputError) else 1) from None
    except KeyboardInterrupt:
        errors.print("\nstopped; what is finished is kept, the same command carries on")
        raise SystemExit(130) from None


def main() -> None:
    """Run the ``ntpctp`` command."""
    quiet_libraries()
    with clear_errors():
        app()
