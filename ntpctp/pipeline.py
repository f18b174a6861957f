"""From an experiment to its comparison; what exists and verifies is not done again."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from accelerate import PartialState

from ntpctp import signs
from ntpctp.audit import AUDIT, audit
from ntpctp.budgets import amounts_at, with_steps
from ntpctp.comparison import ScoreComparison, compare, write_comparison
from ntpctp.engines import Engine, Failure, Local, cores
from ntpctp.errors import InputError
from ntpctp.experiment import Experiment, experiment_of
from ntpctp.jobs import RunTask, Watch, digest_of
from ntpctp.layout import EXPERIMENT, RunId, checkpoint_directory, run_directory, stage_directory
from ntpctp.paths import measure_paths
from ntpctp.places import Place, shipped
from ntpctp.preparation import Data, encoded_beside, prepare
from ntpctp.provenance import PROVENANCE, provenance
from ntpctp.resources import Resources
from ntpctp.runs import Event, is_complete
from ntpctp.scores import collect, write_scores
from ntpctp.stages import Stages
from ntpctp.storage import atomic_file, locked, write_json
from ntpctp.tasks import Example, check_unseen
from ntpctp.trackers import check_trackers
from ntpctp.trajectories import FLOPS
from ntpctp.yaml_file import read_yaml

_PATIENCE = 60.0
"""Seconds that a job waits for another that works on its run: one of a driver that went away, which
the cluster is about to end."""


def runs_of(experiment: Experiment) -> list[RunId]:
    """Return all runs, seed by seed, so that a stopped experiment has whole seeds."""
    return [RunId(arm, seed) for seed in experiment.seeds for arm in experiment.arms]


def local_engine(experiment: Experiment, num_workers: int | None = None) -> Local:
    """Return the pool of this machine.

    Args:
        experiment: its resources say how many threads a run has.
        num_workers: runs at once; by default one a core, or one where there is an accelerator.
    """
    if num_workers is None:
        num_workers = default_workers(experiment.resources)
    num_workers = min(num_workers, len(runs_of(experiment)))
    threads = experiment.resources.cpus or (cores() if num_workers == 1 else 1)
    return Local(num_workers, threads, preload=["ntpctp.jobs"])


def default_workers(resources: Resources) -> int:
    """Return how many runs this machine does at once."""
    if torch.accelerator.is_available():
        return 1
    return max(1, cores() // (resources.cpus or resources.num_processes))


def run_experiment(
    experiment: Experiment,
    place: Place | Path,
    *,
    engine: Engine,
    on_event: Callable[[Event], None],
    retry_failed: bool = False,
) -> dict[str, Failure]:
    """Train and measure all runs.

    Everything that can be wrong with the experiment is found before the first file is written.

    Args:
        experiment: what to do.
        place: where it lies: a directory, or a store and its copy.
        engine: where runs are executed.
        on_event: called for the progress of every run.
        retry_failed: whether runs are begun again that failed before, by no fault of the machine,
            and under the same experiment.

    Returns:
        The runs that failed, now or before, by name. The others are complete.

    Raises:
        InputError: as ``prepare``; or if another process of this machine works on it.
    """
    place = place if isinstance(place, Place) else Place(place)
    output = place.directory
    check_trackers(experiment.trackers)
    place.pull_results()
    _pull_starts(experiment, place)
    data = prepare(experiment, encoded_beside(output))
    with locked(output, "this experiment"):
        complete = {
            run
            for run in runs_of(experiment)
            if is_complete(experiment, data, run, output, verify=place.store is None)
        }
        _write_experiment(experiment, data, output)
        write_json(output / AUDIT, audit(experiment, data))
        write_json(output / FLOPS, {"arms": expected_flops(experiment, data)})
        place.push_files()
        for run in complete:
            on_event(Event(run, "done", text="before"))
        failures = {} if retry_failed else _failed_before(experiment, output, complete)
        content = experiment.model_dump(mode="json")
        if place.store is not None:
            content = shipped(content, place)
        launch_config = experiment.resources.accelerate
        whole = RunTask(
            content,
            RunId("", 0),
            str(output.resolve()) if place.store is None else place.part,
            data.fingerprint,
            part="train" if engine.measures_apart else "all",
            patience=0.0 if engine.name == "local" else _PATIENCE,
            resources=experiment.resources.model_dump(mode="json"),
            launch_config=Path(launch_config).read_text("utf-8") if launch_config else None,
            store=place.store.url if place.store else None,
            driver=str(place.store.copy) if place.store else None,
        )
        tasks = [
            replace(whole, run=run)
            for run in runs_of(experiment)
            if run not in complete and str(run) not in failures
        ]
        for task in tasks:
            place.forget_failure(run_directory(Path(), task.run).as_posix())
        watch = Watch(experiment, place, tasks, on_event)
        failures = {**failures, **engine.run(watch.first, watch)}
        if not failures:
            _pull_ends(experiment, place)
            measure_paths(experiment, data, output, on_event, PartialState().device)
    return failures


def _pull_starts(experiment: Experiment, place: Place) -> None:
    """Bring the checkpoints of an earlier stage that runs start from."""
    if place.store is None:
        return
    for arm in experiment.arms.values():
        template = arm.model.checkpoint
        if template is not None and Path(template).is_relative_to(place.store.copy):
            name = Path(template).relative_to(place.store.copy).as_posix()
            for seed in experiment.seeds:
                place.store.pull(name.replace("{seed}", str(seed)))


def _pull_ends(experiment: Experiment, place: Place) -> None:
    """Bring the last weights of all runs, if the loss between them is asked for."""
    if place.store is None or experiment.comparison.loss_path is None:
        return
    for run in runs_of(experiment):
        last = experiment.arms[run.arm].training.steps
        checkpoint = checkpoint_directory(stage_directory(place.directory, run), last)
        place.store.pull(checkpoint.relative_to(place.store.copy).as_posix())


def _failed_before(
    experiment: Experiment, output: Path, complete: Collection[RunId]
) -> dict[str, Failure]:
    """Return the runs that would fail again: nothing has changed since they did."""
    found = {}
    for run in runs_of(experiment):
        record = None if run in complete else signs.read_failure(run_directory(output, run))
        if record is None or record.get("of_machine", True):
            continue
        if record.get("experiment") == digest_of(experiment):
            found[str(run)] = Failure(
                f"failed before, not begun again: {record['message']}", record["traceback"]
            )
    return found


def expected_flops(experiment: Experiment, data: Data) -> dict[str, dict[str, Any]]:
    """Return, for each arm, its checkpoints' steps and the operations of training until there.

    Those of ``ntpctp.flops`` for average rows, from matrices alone; null with a reason for a model
    whose configuration does not say its attention's size. Costs building each arm's model once.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, arm in experiment.arms.items():
        steps = experiment.evaluation.checkpoint_steps(arm.training.steps)
        found[name] = {"steps": steps, "flops": None, "reason": None}
        try:
            found[name]["flops"] = amounts_at(arm, data, experiment.seeds[0], "flops", steps)
        except AttributeError as error:
            found[name]["reason"] = f"operations of this model are not known: {error}"
    return found


def checked_stages(stages: Stages, output: Path) -> Stages:
    """Find what is wrong with any stage's data or objective before the first is trained.

    Returns:
        The same, with room in a fresh model for the longest example of all stages, and with the
        steps that budgets give.

    Raises:
        InputError: as ``prepare``. Costs reading and encoding the data of all stages.
    """
    longest = 0
    trained: dict[str, Sequence[Example]] = {}
    for stage, experiment in stages.from_scratch().items():
        cache = encoded_beside(output / stage)
        data = prepare(experiment, cache)
        # With its own training split each stage has been compared.
        held_out = {name: data.splits[name].examples for name in data.evaluation_splits}
        check_unseen(trained, held_out)
        trained[f"train of {stage}"] = data.splits["train"].examples
        longest = max(longest, data.longest)
        stages = stages.with_steps(stage, with_steps(experiment, cache).arms)
    return stages.with_context(-(-longest // 8) * 8)


def compare_experiment(
    experiment: Experiment, output: Path
) -> tuple[pd.DataFrame, list[ScoreComparison]]:
    """Write ``scores.parquet`` and ``comparison.json`` from what is measured."""
    frame = collect(experiment, output)
    write_scores(frame, output)
    comparisons = compare(experiment, frame, output)
    write_comparison(experiment, comparisons, output)
    return frame, comparisons


def load_output(output: Path) -> Experiment:
    """Read the experiment that an output directory belongs to.

    Raises:
        InputError: if it is not one.
    """
    if not (output / EXPERIMENT).is_file():
        raise InputError(f"{output}: not an experiment's directory: it has no {EXPERIMENT}")
    content, lines = read_yaml(output / EXPERIMENT)
    return experiment_of(content, str(output / EXPERIMENT), lines)


def _write_experiment(experiment: Experiment, data: Data, output: Path) -> None:
    with atomic_file(output / EXPERIMENT) as temporary:
        text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
        temporary.write_text(f"# As resolved: with all defaults.\n{text}", "utf-8")
    write_json(output / PROVENANCE, {"data_fingerprint": data.fingerprint, **provenance()})
