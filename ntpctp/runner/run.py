"""One run: train an arm with one seed, and measure each of its checkpoints.

<output>/<arm>/seed-<k>/run.json          settings that decide the weights, and provenance
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
from ntpctp.runner.callbacks import checkpoint_callback
from ntpctp.runner.evaluate import evaluate, is_evaluated
from ntpctp.runner.events import Event
from ntpctp.runner.prepare import Data, initial_model
from ntpctp.training.accelerator import accelerator_here
from ntpctp.training.log import LogLine, digests
from ntpctp.training.loop import TrainingLoop
from ntpctp.training.trackers import TrackedRun, tracking

RECORD = "run.json"
# Fields that change the log, not the weights.
_NOT_DECIDING = {"training": ("log_every",)}


@dataclass(frozen=True)
class StoreSync:
    """How to sync a run with its store; by default there is none."""

    pull: Callable[[], object] = lambda: None
    push: Callable[[], object] = lambda: None


def accelerator_for(experiment: Experiment, run: RunId, output: Path) -> Accelerator:
    """Return the accelerator for ``train_run``, on the devices and processes of the launch.

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
    """Train a run to its end; resume it if it was stopped.

    Raises:
        InputError: if the directory holds a run with other settings; names the fields.
    """
    arm = experiment.arms[run.arm]
    directory = run_directory(output, run)
    if accelerator.is_main_process:
        _check_record(directory / RECORD, _deciding_settings(experiment, data, run))
    steps = arm.training.steps

    losses_of = reference_losses(
        output / "reference-losses",
        data.tokenizer,
        batch_tokens=experiment.evaluation.batch_tokens,
        device=accelerator.device,
    )

    settings = {"task": experiment.task.model_dump(mode="json"), **arm.model_dump(mode="json")}
    tracked = TrackedRun(accelerator, experiment.name, run.arm, run.seed, settings)
    callback = checkpoint_callback(experiment, data, run.arm, accelerator.device)

    def on_progress(line: LogLine) -> None:
        tracked.log(line)
        on_event(Event(run, "training", line.step, steps, line.loss))

    def at_checkpoint(path: Path) -> bool:
        stops = callback is not None and callback(path)
        on_event(Event(run, "checkpoint", checkpoints.step_of(path), steps))
        return stops

    TrainingLoop(
        model=initial_model(arm, data, run.seed),
        tokenizer=data.tokenizer,
        data=SupervisedExamples(data.splits["train"].encoded, arm.objective, losses_of),
        options=arm.training,
        seed=run.seed,
        directory=stage_directory(output, run),
        checkpoint_steps=experiment.evaluation.checkpoint_steps(steps),
        accelerator=accelerator,
        on_progress=on_progress,
        warn=lambda text: on_event(Event(run, "warning", text=text)),
        at_checkpoint=at_checkpoint,
    ).run()
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
    """Measure every checkpoint of a run.

    Args:
        experiment: has the measures.
        data: its data.
        run: arm and seed.
        output: directory of the experiment.
        device: of the model.
        on_event: called with the progress.
        only: step of the only checkpoint to measure; None: all.
        share: (index of this process, number of processes) that share the checkpoints.

    Raises:
        InputError: if a checkpoint is missing or damaged.
    """
    arm = experiment.arms[run.arm]
    steps = experiment.evaluation.checkpoint_steps(arm.training.steps)
    process, num_processes = share
    for index, step in enumerate(steps):
        if index % num_processes != process or only not in (None, step):
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
    """Whether every checkpoint and score of a run exists and is valid; reads all its files.

    Args:
        experiment: has the measures.
        data: its data.
        run: arm and seed.
        output: directory of the experiment.
        verify: False: only check that files exist, for a copy without weights.

    Raises:
        InputError: if the directory holds a run with other settings; names the fields.
    """
    arm = experiment.arms[run.arm]
    if not (run_directory(output, run) / RECORD).is_file():
        return False
    _check_record(run_directory(output, run) / RECORD, _deciding_settings(experiment, data, run))
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
    """Whether the log up to a checkpoint is undamaged."""
    try:
        checkpoints.check_log(checkpoint, digests(checkpoint.parent / LOG))
    except InputError:
        return False
    return True


def has_results(experiment: Experiment, run: RunId, output: Path, step: int) -> bool:
    """Whether a checkpoint and the results of all its measures exist; they are not read."""
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
    sync: StoreSync = StoreSync(),
) -> None:
    """Train and measure a run; results that exist and verify are kept.

    Args:
        experiment: with steps.
        data: its data.
        run: arm and seed.
        output: directory of the experiment.
        on_event: called with the progress, on the main process.
        measures: False: only train; other jobs measure the checkpoints.
        patience: seconds to wait for another process that works on this run, for example one whose
            driver is gone and which will end soon.
        sync: with the store of the run.

    Raises:
        InputError: as ``exclusive_run`` and ``train_run``.
    """
    accelerator = accelerator_for(experiment, run, output)

    def send(event: Event) -> None:
        if event.kind == "checkpoint":
            sync.push()  # before the driver learns of it
        on_event(event)

    with (
        exclusive_run(run, output, patience, sync) if accelerator.is_main_process else nullcontext()
    ):
        accelerator.wait_for_everyone()  # until temporary files of a killed process are deleted
        train_run(experiment, data, run, output, accelerator, send)
        if measures:
            share = accelerator.process_index, accelerator.num_processes
            evaluate_run(experiment, data, run, output, accelerator.device, on_event, share=share)
            accelerator.wait_for_everyone()


@contextmanager
def exclusive_run(
    run: RunId, output: Path, patience: float = 0.0, sync: StoreSync = StoreSync()
) -> Iterator[None]:
    """Lock a run and write its heartbeat during the body.

    Pulls the run first; pushes it with every heartbeat and at the end, also after an error.

    Raises:
        InputError: if another process still holds the run after ``patience`` seconds; or if its
            directory is a link that leads out of ``output``.
    """
    directory = run_directory(output, run)
    for path in (directory, stage_directory(output, run)):
        if not path.resolve().is_relative_to(output.resolve()):
            raise InputError(
                f"{path}: a symbolic link in this path leads out of {output}; refusing to write or "
                "delete through it. Link the whole directory instead, or remove the link"
            )
    with locked(directory, f"the run {run}", patience):
        clear_temporaries(directory, but=RESULTS)
        sync.pull()
        try:
            with heartbeat.keep_alive(directory, sync.push):
                yield
        except BaseException:
            with suppress(InputError, OSError):  # report the first error
                sync.push()
            raise
        sync.push()


def _deciding_settings(experiment: Experiment, data: Data, run: RunId) -> dict[str, Any]:
    """Return all settings that decide the weights of a run."""
    chosen = experiment.arms[run.arm]
    arm = chosen.model_dump(mode="json")
    for block, fields in _NOT_DECIDING.items():
        for field in fields:
            arm[block].pop(field)
    start = _digest(source_of(chosen.model, run.seed))
    if start is not None:
        arm["model"].pop("checkpoint")  # its weights count, not their path
    reference = None
    if isinstance(chosen.objective, Selective):
        reference = _digest(chosen.objective.reference)
        if reference is not None:
            arm["objective"].pop("reference")
    if chosen.training.stop is not None:  # evaluated at every checkpoint
        arm["looked_at"] = experiment.evaluation.checkpoint_steps(chosen.training.steps)
    # The fingerprint of the data covers the tokenizer.
    return {
        "seed": run.seed,
        "task": experiment.task.model_dump(mode="json"),
        "data_fingerprint": data.fingerprint,
        "start": start,
        "reference": reference,
        **arm,
    }


def _digest(source: str | None) -> str | None:
    """Return a hash of the weights of a checkpoint; None: no local checkpoint."""
    if source is None or not Path(source).is_dir():
        return None
    return fingerprint({f.name: sha256_of(f) for f in sorted(Path(source).glob("*.safetensors"))})


def read_record(path: Path) -> dict[str, Any]:
    """Return the settings in ``run.json`` that decided the weights of the run.

    Raises:
        InputError: if it is damaged.
    """
    remedy = (
        "so the settings of the run are unknown. Restore the file from a copy, or delete "
        f"{path.parent} and run the same command to train it again"
    )
    settings: dict[str, Any] = read_sealed(path, remedy)["run"]
    return settings


def _check_record(path: Path, settings: dict[str, Any]) -> None:
    """Write the record of a new run, or compare it with the existing one.

    Raises:
        InputError: if they differ.
    """
    if not path.is_file():
        record = {"run": settings, "provenance": provenance()}
        write_sealed(path, record)
        return
    existing = read_record(path)
    same_data = existing["data_fingerprint"] == settings["data_fingerprint"]
    differences = [
        f"{name}: {old!r} in run.json, {new!r} now"
        for name, old, new in _differences(existing, settings)
        # The same data may have moved; otherwise the fields of the task say why data differ.
        if not (same_data and name.split(".")[0] == "task")
    ]
    if differences:
        raise InputError(
            f"{path.parent}: the directory holds a run with other settings:\n  "
            + "\n  ".join(differences)
            + "\nChoose another --output, restore the settings, or delete the directory"
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
