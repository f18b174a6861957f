"""One run: an arm with one seed is trained, and each of its checkpoints measured.

<output>/<arm>/seed-<k>/run.json          what decides the run's result, and what produced it
<output>/<arm>/seed-<k>/train/            log.jsonl and the checkpoints of the stage
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ntpctp._core.errors import InputError
from ntpctp._core.files import clear_temporaries, fingerprint, sha256_of
from ntpctp._core.layout import (
    LOG,
    RESULTS,
    RunId,
    checkpoint_directory,
    run_directory,
    scores_path,
    stage_directory,
)
from ntpctp._core.locks import locked
from ntpctp._core.provenance import provenance
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp.config import Experiment
from ntpctp.models import checkpoints
from ntpctp.models.build import source_of
from ntpctp.models.reference_losses import reference_losses
from ntpctp.objectives import Selective
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.runner import heartbeat
from ntpctp.runner.callbacks import follower
from ntpctp.runner.evaluate import evaluate, is_evaluated
from ntpctp.runner.events import Event
from ntpctp.runner.prepare import Data, initial_model
from ntpctp.training.accelerator import accelerator_here
from ntpctp.training.log import LogLine, digests
from ntpctp.training.loop import train
from ntpctp.training.trackers import TrackedRun, tracking

RECORD = "run.json"
# Fields that change what is written down, not the weights.
_NOT_DECISIVE = {"training": ("log_every",)}


@dataclass(frozen=True)
class Link:
    """How a run here is kept in step with where else it lies; by default it lies nowhere else."""

    pull: Callable[[], object] = lambda: None
    push: Callable[[], object] = lambda: None


def accelerator_of(experiment: Experiment, run: RunId, output: Path) -> Accelerator:
    """Return the accelerator that ``train_run`` is to use, on whatever it was launched with.

    Raises:
        InputError: as ``accelerator_here``.
    """
    return accelerator_here(
        trains=True,
        mixed_precision=experiment.arms[run.arm].training.mixed_precision,
        **tracking(experiment.trackers, run_directory(output, run)),
    )


def train_run(
    experiment: Experiment,
    data: Data,
    run: RunId,
    output: Path,
    accelerator: Accelerator,
    on_event: Callable[[Event], None] = lambda event: None,
) -> None:
    """Train a run to its end, or carry on where it stopped.

    Raises:
        InputError: if the directory holds a run made under other settings; names the fields.
    """
    arm = experiment.arms[run.arm]
    directory = run_directory(output, run)
    if accelerator.is_main_process:
        _check_record(directory / RECORD, _decisive(experiment, data, run))
    steps = arm.training.steps

    losses_of = reference_losses(
        output / "reference-losses",
        data.tokenizer,
        batch_tokens=experiment.evaluation.batch_tokens,
        device=accelerator.device,
    )

    settings = {"task": experiment.task.model_dump(mode="json"), **arm.model_dump(mode="json")}
    tracked = TrackedRun(accelerator, experiment.name, run.arm, run.seed, settings)
    follow = follower(experiment, data, run.arm, accelerator.device)

    def on_progress(line: LogLine) -> None:
        tracked.log(line)
        on_event(Event(run, "training", line.step, steps, line.loss))

    def at_checkpoint(path: Path) -> bool:
        ends = follow is not None and follow(path)
        on_event(Event(run, "checkpoint", checkpoints.step_of(path), steps))
        return ends

    train(
        initial_model(arm, data, run.seed),
        data.tokenizer,
        SupervisedExamples(data.splits["train"].rows, arm.objective, losses_of),
        arm.training,
        seed=run.seed,
        directory=stage_directory(output, run),
        checkpoint_steps=experiment.evaluation.checkpoint_steps(steps),
        accelerator=accelerator,
        on_progress=on_progress,
        warn=lambda text: on_event(Event(run, "warning", text=text)),
        at_checkpoint=at_checkpoint,
    )
    tracked.end()


def evaluate_run(
    experiment: Experiment,
    data: Data,
    run: RunId,
    output: Path,
    device: str | torch.device,
    on_event: Callable[[Event], None] = lambda event: None,
    *,
    only: int | None = None,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Measure every checkpoint of a run that its experiment asks for.

    Args:
        experiment: what is asked.
        data: its data.
        run: whose checkpoints.
        output: directory of the experiment.
        device: where the model runs.
        on_event: told how far it has come.
        only: the step of the one checkpoint to measure.
        share: of several processes, which one this is and how many share the checkpoints.

    Raises:
        InputError: if a checkpoint is missing or damaged.
    """
    arm = experiment.arms[run.arm]
    steps = experiment.evaluation.checkpoint_steps(arm.training.steps)
    place, number = share
    for index, step in enumerate(steps):
        if index % number != place or only not in (None, step):
            continue
        if only is None:
            on_event(Event(run, "measuring", index, len(steps)))
        evaluate(
            checkpoint_directory(stage_directory(output, run), step),
            data,
            arm.objective,
            experiment.evaluation.at(step, steps[-1]),
            batch_tokens=experiment.evaluation.batch_tokens,
            device=device,
        )
    if only is None:
        on_event(Event(run, "measuring", len(steps), len(steps)))


def is_complete(
    experiment: Experiment, data: Data, run: RunId, output: Path, *, verify: bool = True
) -> bool:
    """Whether every checkpoint and score of a run is there and holds; reads all its files.

    Args:
        experiment: what is asked.
        data: its data.
        run: which.
        output: directory of the experiment.
        verify: False: take what is there for good, where weights are elsewhere.

    Raises:
        InputError: if the directory holds a run made under other settings; names the fields.
    """
    arm = experiment.arms[run.arm]
    if not (run_directory(output, run) / RECORD).is_file():
        return False
    _check_record(run_directory(output, run) / RECORD, _decisive(experiment, data, run))
    steps = experiment.evaluation.checkpoint_steps(arm.training.steps)
    if not verify:
        return all(has_results(experiment, run, output, step) for step in steps)
    stage = stage_directory(output, run)
    measured = all(
        is_evaluated(
            checkpoint_directory(stage, step),
            data,
            arm.objective,
            experiment.evaluation.at(step, steps[-1]),
        )
        for step in steps
    )
    return measured and _has_log(checkpoint_directory(stage, steps[-1]))


def _has_log(checkpoint: Path) -> bool:
    """Whether the log up to a checkpoint is whole."""
    try:
        checkpoints.check_log(checkpoint, digests(checkpoint.parent / LOG))
    except InputError:
        return False
    return True


def has_results(experiment: Experiment, run: RunId, output: Path, step: int) -> bool:
    """Whether a checkpoint is there, and the results of all its measures; they are not read."""
    last = experiment.evaluation.checkpoint_steps(experiment.arms[run.arm].training.steps)[-1]
    checkpoint = checkpoint_directory(stage_directory(output, run), step)
    needed = [measure.name for measure in experiment.evaluation.at(step, last)]
    return checkpoint.is_dir() and all(scores_path(checkpoint, n).is_file() for n in needed)


def execute(
    experiment: Experiment,
    data: Data,
    run: RunId,
    output: Path,
    on_event: Callable[[Event], None] = lambda event: None,
    *,
    measures: bool = True,
    patience: float = 0.0,
    link: Link = Link(),
) -> None:
    """Train and measure a run; what exists and verifies is not done again.

    Args:
        experiment: what is asked.
        data: its data.
        run: which.
        output: directory of the experiment.
        on_event: told how far it has come, on the main process.
        measures: False: only train; its checkpoints are measured elsewhere.
        patience: seconds to wait for another process that works on this run: one that lost its
            driver, say, and is about to end.
        link: to where else the run is kept.

    Raises:
        InputError: also if another process works on this run.
    """
    accelerator = accelerator_of(experiment, run, output)

    def tell(event: Event) -> None:
        if event.kind == "checkpoint":
            link.push()  # whoever hears of it finds it there
        on_event(event)

    with working(run, output, patience, link) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()  # until what a killed process left is cleared away
        train_run(experiment, data, run, output, accelerator, tell)
        if measures:
            share = accelerator.process_index, accelerator.num_processes
            evaluate_run(experiment, data, run, output, accelerator.device, on_event, share=share)
            accelerator.wait_for_everyone()


@contextmanager
def working(run: RunId, output: Path, patience: float = 0.0, link: Link = Link()) -> Iterator[None]:
    """Be the only process that works on a run, and give signs of life of it.

    What is kept elsewhere is brought first, and what was done is put there with every sign of life
    and at the end, however that comes.

    Raises:
        InputError: if another process works on it, and still does after ``patience`` seconds; or
            if its directory is a link that leads out of ``output``.
    """
    directory = run_directory(output, run)
    for path in (directory, stage_directory(output, run)):
        if not path.resolve().is_relative_to(output.resolve()):
            raise InputError(
                f"{path}: is a link, or lies behind one, that leads out of {output}; nothing is "
                "written or deleted through it. Link the whole directory instead, or remove it"
            )
    with locked(directory, f"the run {run}", patience):
        clear_temporaries(directory, but=RESULTS)
        link.pull()
        try:
            with heartbeat.alive(directory, link.push):
                yield
        except BaseException:
            with suppress(InputError, OSError):  # what went wrong first is what is told
                link.push()
            raise
        link.push()


def _decisive(experiment: Experiment, data: Data, run: RunId) -> dict[str, Any]:
    """Return all that decides the weights of a run."""
    chosen = experiment.arms[run.arm]
    arm = chosen.model_dump(mode="json")
    for block, fields in _NOT_DECISIVE.items():
        for field in fields:
            arm[block].pop(field)
    start = _digest(source_of(chosen.model, run.seed))
    if start is not None:
        arm["model"].pop("checkpoint")  # its weights count, not where they lie
    reference = None
    if isinstance(chosen.objective, Selective):
        reference = _digest(chosen.objective.reference)
        if reference is not None:
            arm["objective"].pop("reference")
    if chosen.training.stop is not None:  # it is looked at with every checkpoint
        arm["looked_at"] = experiment.evaluation.checkpoint_steps(chosen.training.steps)
    # The fingerprint of the data covers the tokenizer, wherever that lies.
    return {
        "seed": run.seed,
        "task": experiment.task.model_dump(mode="json"),
        "data_fingerprint": data.fingerprint,
        "start": start,
        "reference": reference,
        **arm,
    }


def _digest(source: str | None) -> str | None:
    """Return what changes with the weights of a checkpoint; None: there is none, or on the hub."""
    if source is None or not Path(source).is_dir():
        return None
    return fingerprint({f.name: sha256_of(f) for f in sorted(Path(source).glob("*.safetensors"))})


def read_record(path: Path) -> dict[str, Any]:
    """Return what decides the result of the run that ``run.json`` is of.

    Raises:
        InputError: if it is damaged.
    """
    remedy = (
        "so it cannot tell under which settings the run was made; put it back from a copy, or "
        f"delete {path.parent} and run again to train it anew"
    )
    found: dict[str, Any] = read_sealed(path, remedy)["run"]
    return found


def _check_record(path: Path, decisive: dict[str, Any]) -> None:
    """Write the record of a new run, or compare it with the one that is there."""
    if not path.is_file():
        record = {"run": decisive, "provenance": provenance()}
        write_sealed(path, record)
        return
    there = read_record(path)
    same_data = there["data_fingerprint"] == decisive["data_fingerprint"]
    differences = [
        f"{name}: {old!r} there, {new!r} now"
        for name, old, new in _differences(there, decisive)
        # The same data may lie elsewhere; otherwise the task's fields say why they differ.
        if not (same_data and name.split(".")[0] == "task")
    ]
    if differences:
        raise InputError(
            f"{path.parent}: holds a run made under other settings:\n  "
            + "\n  ".join(differences)
            + "\nchoose another --output, restore the settings, or delete the directory"
        )


def _differences(a: Any, b: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [
            difference
            for key in sorted({*a, *b})
            for difference in _differences(
                a.get(key), b.get(key), f"{name}.{key}" if name else str(key)
            )
        ]
    return [] if a == b else [(name, a, b)]
