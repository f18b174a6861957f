"""From an experiment to its comparison; what exists and verifies is not done again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from accelerate import PartialState

from ntpctp import signs, workers
from ntpctp.audit import AUDIT, audit
from ntpctp.budgets import amounts_at, with_steps
from ntpctp.comparison import ScoreComparison, compare, write_comparison
from ntpctp.errors import InputError
from ntpctp.experiment import Experiment, experiment_of
from ntpctp.libraries import quiet_libraries
from ntpctp.paths import measure_paths
from ntpctp.preparation import Data, encoded_beside, prepare
from ntpctp.provenance import PROVENANCE, provenance
from ntpctp.runs import Event, RunId, execute, is_complete, run_directory
from ntpctp.scores import collect, write_scores
from ntpctp.stages import Stages
from ntpctp.storage import atomic_file, locked, write_json
from ntpctp.tasks import Example, check_unseen
from ntpctp.trackers import check_trackers
from ntpctp.trajectories import FLOPS
from ntpctp.yaml_file import read_yaml

EXPERIMENT = "experiment.yaml"
_DEPTH = 4
"""How deep experiments are looked for: runs/<group>/<experiment>/<stage>, and one more."""


def runs_of(experiment: Experiment) -> list[RunId]:
    """Return all runs, seed by seed, so that a stopped experiment has whole seeds."""
    return [RunId(arm, seed) for seed in experiment.seeds for arm in experiment.arms]


def default_workers() -> int:
    """Return how many runs to do at once: one a core, or one where there is an accelerator."""
    return 1 if torch.accelerator.is_available() else workers.cores()


def run_experiment(
    experiment: Experiment,
    output: Path,
    *,
    num_workers: int,
    on_event: Callable[[Event], None],
) -> dict[str, workers.Failure]:
    """Train and measure all runs.

    Everything that can be wrong with the experiment is found before the first file is written.

    Args:
        experiment: what to do.
        output: its directory.
        num_workers: runs at once; with several, each has one thread.
        on_event: called for the progress of every run.

    Returns:
        The runs that failed, by name. The others are complete.

    Raises:
        InputError: as ``prepare``; or if another process works on ``output``.
    """
    check_trackers(experiment.trackers)
    data = prepare(experiment, encoded_beside(output))
    with locked(output, "this experiment"):
        complete = {
            run for run in runs_of(experiment) if is_complete(experiment, data, run, output)
        }
        _write_experiment(experiment, data, output)
        write_json(output / AUDIT, audit(experiment, data))
        write_json(output / FLOPS, {"arms": expected_flops(experiment, data)})
        for run in complete:
            on_event(Event(run, "done", text="before"))
        content = experiment.model_dump(mode="json")
        failures = workers.run_side_by_side(
            {
                str(run): (content, run, output, data.fingerprint)
                for run in runs_of(experiment)
                if run not in complete
            },
            _work,
            workers=num_workers,
            threads=max(1, workers.cores() // num_workers) if num_workers == 1 else 1,
            on_event=on_event,
            preload=["ntpctp.runs"],
        )
        for name in failures:
            run, failure = _run_named(experiment, name), failures[name]
            signs.fail(run_directory(output, run), failure.message, failure.traceback)
            on_event(Event(run, "failed", text=failure.message))
        if not failures:
            measure_paths(experiment, data, output, on_event, PartialState().device)
    return failures


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


def experiments_below(directory: Path) -> list[Path]:
    """Return the directories of all experiments in ``directory``, itself included.

    Inside of one no other is looked for.

    Raises:
        InputError: if there is none.
    """
    found = list(_look(directory, _DEPTH))
    if not found:
        raise InputError(
            f"{directory}: expected an experiment's directory, or experiments in it; found no "
            f"{EXPERIMENT} down to {_DEPTH} directories deep"
        )
    return found


def _look(directory: Path, depth: int) -> Iterator[Path]:
    if (directory / EXPERIMENT).is_file():
        yield directory
    elif depth and directory.is_dir():
        for inside in sorted(directory.iterdir()):
            if inside.is_dir() and not inside.name.startswith("."):
                yield from _look(inside, depth - 1)


def _work(
    content: Mapping[str, Any],
    run: RunId,
    output: Path,
    data_fingerprint: str,
    send: Callable[[Event], None],
) -> None:
    """Do one run in a worker process."""
    quiet_libraries()
    experiment = experiment_of(content, str(output / EXPERIMENT))
    data = prepare(experiment, encoded_beside(output))
    if data.fingerprint != data_fingerprint:
        raise InputError(
            f"the data are not those that the experiment started with: the task "
            f"{experiment.task.name!r} gives other examples each time it is read, or its files "
            "have changed since; arms must train on the same data"
        )
    execute(experiment, data, run, output, send)
    send(Event(run, "done"))


def _run_named(experiment: Experiment, name: str) -> RunId:
    return next(run for run in runs_of(experiment) if str(run) == name)


def _write_experiment(experiment: Experiment, data: Data, output: Path) -> None:
    with atomic_file(output / EXPERIMENT) as temporary:
        text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
        temporary.write_text(f"# As resolved: with all defaults.\n{text}", "utf-8")
    write_json(output / PROVENANCE, {"data_fingerprint": data.fingerprint, **provenance()})
