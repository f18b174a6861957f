"""From an experiment to its trained and measured runs; what exists and verifies is kept."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from ntpctp._core.cpu import cores
from ntpctp.config import Experiment
from ntpctp.config.resources import Resources
from ntpctp.config.stages import Stages
from ntpctp.data.example import Example
from ntpctp.data.leakage import check_unseen
from ntpctp.runner.budget import with_steps
from ntpctp.runner.concurrent import Together
from ntpctp.runner.engines import Engine, Failure, Local
from ntpctp.runner.events import Event
from ntpctp.runner.experiment import begun
from ntpctp.runner.location import ExperimentLocation
from ntpctp.runner.prepare import encoded_beside, prepare


def local_engine(experiments: Collection[Experiment], num_workers: int | None = None) -> Local:
    """Return the pool of this machine.

    Args:
        experiments: their resources say how many threads a run has.
        num_workers: runs at once; by default one a core, or one where there is an accelerator.
    """
    if num_workers is None:
        num_workers = min(default_workers(experiment.resources) for experiment in experiments)
    num_workers = min(num_workers, sum(len(experiment.runs()) for experiment in experiments))
    asked = {experiment.resources.cpus for experiment in experiments}
    threads = max(cpus or 0 for cpus in asked) or (cores() if num_workers == 1 else 1)
    return Local(num_workers, threads, preload=["ntpctp.runner.worker"])


def default_workers(resources: Resources) -> int:
    """Return how many runs this machine does at once."""
    if torch.accelerator.is_available():
        return 1
    return max(1, cores() // (resources.cpus or resources.num_processes))


def run_experiment(
    experiment: Experiment,
    place: ExperimentLocation | Path,
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
        The jobs that failed, now or before, by name. The others are complete.

    Raises:
        InputError: as ``prepare``; or if another process of this machine works on it.
    """
    place = place if isinstance(place, ExperimentLocation) else ExperimentLocation(place)
    with begun(experiment, place, engine, on_event, retry_failed) as execution:
        watch = execution.watch
        failures = {**execution.failed_before, **engine.run(watch.first, watch)}
        if not failures:
            execution.finish()
    return failures


def run_together(
    experiments: Mapping[str, Experiment],
    places: Mapping[str, ExperimentLocation],
    *,
    engine: Engine,
    on_event: Callable[[str, Event], None],
    on_over: Callable[[str, dict[str, Failure]], None],
    retry_failed: bool = False,
) -> None:
    """Train and measure all runs of several experiments: none waits for the last run of another.

    Args:
        experiments: by name; jobs are begun in this order.
        places: where each lies.
        engine: where runs are executed.
        on_event: called for the progress of every run, with the name of its experiment.
        on_over: called with the name of an experiment when its last run is over, and the jobs of it
            that failed, now or before, while runs of others go on.
        retry_failed: as ``run_experiment`` has it.

    Raises:
        InputError: as ``run_experiment``, before any run is begun.
    """
    with ExitStack() as held:
        executions = {
            name: held.enter_context(
                begun(experiment, places[name], engine, partial(on_event, name), retry_failed)
            )
            for name, experiment in experiments.items()
        }

        def over(name: str, failures: dict[str, Failure]) -> None:
            failures = {**executions[name].failed_before, **failures}
            if not failures:
                executions[name].finish()
            on_over(name, failures)

        together = Together({name: each.watch for name, each in executions.items()}, over)
        engine.run(together.first, together)


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
