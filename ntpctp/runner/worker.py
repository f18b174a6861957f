"""The two ends of a run's jobs: what a worker executes, and how the driver follows it.

The driver sends a ``RunRequest`` through an engine; a worker executes it and sends ``Event`` back;
the driver's ``RunWatcher`` passes events on and says which jobs follow.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

from accelerate.state import AcceleratorState

from ntpctp._core.errors import InputError
from ntpctp._core.files import fingerprint
from ntpctp._core.layout import RunId, checkpoint_directory, run_directory, stage_directory
from ntpctp._core.locks import alone
from ntpctp._core.runtime import go_offline, quiet_libraries
from ntpctp.config import Experiment, experiment_of
from ntpctp.config.resources import Resources
from ntpctp.runner import heartbeat
from ntpctp.runner.engines import Failed, Failure, Job, Note
from ntpctp.runner.engines.accelerate_launch import launch
from ntpctp.runner.events import Event
from ntpctp.runner.location import ExperimentLocation, download_inputs
from ntpctp.runner.prepare import Data, encoded_beside, prepare
from ntpctp.runner.run import StoreSync, evaluate_run, execute, has_results
from ntpctp.runner.stores import Store
from ntpctp.training.accelerator import accelerator_here


@dataclass(frozen=True)
class RunRequest:
    """A run, or a part of one, for a worker to execute.

    Attributes:
        content: the resolved experiment file.
        run: the run.
        output: directory of the experiment; with a store, its path below the store.
        store: URL; None: ``output`` is a directory that the worker can reach.
        driver: the driver's copy of the store; workers download the files in it that ``content``
            names.
        data_fingerprint: of the data on which all runs must train.
        part: ``train`` leaves its checkpoints to other jobs to measure; ``measure`` is such a job.
        step: of the checkpoint to measure.
        patience: seconds to wait for another process that still works on this run.
        resources: see ``Resources``.
        launch_config: content of an accelerate configuration file, see ``Resources``.
        offline: whether downloads are forbidden; a worker may lack the driver's environment.
    """

    content: Mapping[str, Any]
    run: RunId
    output: str
    data_fingerprint: str
    part: Literal["all", "train", "measure"] = "all"
    step: int | None = None
    patience: float = 0.0
    resources: Mapping[str, Any] | None = None
    launch_config: str | None = None
    store: str | None = None
    driver: str | None = None
    offline: bool = False


def execute_request(request: RunRequest, send: Callable[[Event], None]) -> None:
    """Execute a request, in as many processes as its resources say."""
    resources = Resources.model_validate(request.resources or {})
    if resources.num_processes == 1 or request.part == "measure":
        execute_in_process(request, send)
        return
    failure = launch(
        "ntpctp.runner.worker_main",
        asdict(request),
        resources,
        send=send,
        event_type=Event,
        config=request.launch_config,
    )
    if failure is not None:
        raise Failed(failure)


def execute_in_process(request: RunRequest, send: Callable[[Event], None]) -> None:
    """Execute a request in this process, or as one of the processes launched for it.

    Raises:
        InputError: if the data changed since the experiment started, and as ``execute``.
    """
    quiet_libraries()
    if request.offline:
        go_offline()
    try:
        _execute_part(request, send)
    finally:
        # A Ray worker goes on to other arms, which may want another precision.
        if "WORLD_SIZE" not in os.environ:
            AcceleratorState._reset_state(reset_partial_state=True)


def _execute_part(request: RunRequest, send: Callable[[Event], None]) -> None:
    content, output, sync = _located(request, send)
    experiment, data = _prepared(json.dumps(content), output)
    if data.fingerprint != request.data_fingerprint:
        raise InputError(
            f"the data set changed since the experiment started (fingerprint mismatch): the task "
            f"{experiment.task.name!r} yields other examples each time it is read, or its files "
            "were edited. All arms must train on the same data: restore the files, or choose "
            "another --output"
        )
    if request.part == "measure":
        sync.pull()
        device = accelerator_here().device
        evaluate_run(experiment, data, request.run, output, device, send, only=request.step)
        sync.push()
    else:
        execute(
            experiment,
            data,
            request.run,
            output,
            send,
            measures=request.part == "all",
            patience=request.patience,
            sync=sync,
        )


def _located(
    request: RunRequest, send: Callable[[Event], None]
) -> tuple[dict[str, Any], Path, StoreSync]:
    """Return the experiment with the paths of this machine, its directory, and how to sync it."""
    content = dict(request.content)
    if request.store is None:
        return content, Path(request.output), StoreSync()
    store = Store(request.store, warn=lambda text: send(Event(request.run, "warning", text=text)))
    content["seeds"] = [request.run.seed]  # inputs of other seeds are not downloaded
    with alone(store.copy / ".inputs"):
        content = download_inputs(content, Path(request.driver or ""), store, request.run.seed)
    return content, store.copy / request.output, _sync_of(store, request)


def _sync_of(store: Store, request: RunRequest) -> StoreSync:
    """Return how to sync the part of a store that a request changes."""
    part = run_directory(Path(request.output), request.run)
    if request.step is not None:
        stage = stage_directory(Path(request.output), request.run)
        part = checkpoint_directory(stage, request.step)
    return StoreSync(partial(store.pull, part.as_posix()), partial(store.push, part.as_posix()))


@lru_cache(maxsize=2)
def _prepared(content: str, output: Path) -> tuple[Experiment, Data]:
    """Return an experiment and its data, cached: a worker may execute several of its runs."""
    experiment = experiment_of(json.loads(content), str(output / "experiment.yaml"))
    return experiment, prepare(experiment, encoded_beside(output))


class RunWatcher:
    """Follows the runs of one experiment: passes on their events and returns the jobs that follow.

    Where the engine evaluates separately, one job trains a run, and each of its checkpoints
    becomes a job as soon as it is saved. A run is done when all its jobs are.

    Attributes:
        initial_jobs: one for each requested run.
    """

    def __init__(
        self,
        experiment: Experiment,
        place: ExperimentLocation,
        requests: Iterable[RunRequest],
        on_event: Callable[[Event], None],
    ):
        self._experiment, self._place, self._report = experiment, place, on_event
        self._output = place.directory
        self._requests: dict[str, RunRequest] = {}
        self._submitted: set[tuple[RunId, int]] = set()
        self._unfinished: dict[RunId, int] = {}  # number of jobs
        self._failed: set[RunId] = set()
        self.initial_jobs = [self._job(request) for request in requests]

    def on_event(self, event: Event | Note) -> list[Job]:
        """Pass on an event; of a new checkpoint, return the job that measures it."""
        if isinstance(event, Note):
            self._report(Event(self._requests[event.name].run, "warning", text=event.text))
            return []
        if event.run in self._unfinished:  # late events of a finished run are dropped
            self._report(event)
            if event.kind == "checkpoint":
                return self._measure(event.run, [event.done])
        return []

    def on_end(self, name: str, failure: Failure | None) -> list[Job]:
        """Record the end of a job; after training, return jobs for checkpoints not yet measured."""
        request = self._requests[name]
        run, more = request.run, []
        self._place.pull_results(run_directory(Path(), run).as_posix())
        if failure is None and request.part == "all":
            failure = self._incomplete(run)
        if failure is not None:
            self._fail(run, failure)
        elif request.part == "train":
            more = self._measure(run, self._steps(run))
        self._unfinished[run] -= 1
        if self._evaluates_separately(run):
            measured = sum(
                has_results(self._experiment, run, self._output, s) for s in self._steps(run)
            )
            self._report(Event(run, "measuring", measured, len(self._steps(run))))
        if not self._unfinished[run]:
            del self._unfinished[run]
            if run not in self._failed:
                self._report(Event(run, "done"))
        return more

    def _fail(self, run: RunId, failure: Failure) -> None:
        record = {**asdict(failure), "experiment": experiment_digest(self._experiment)}
        heartbeat.write_failure(run_directory(self._output, run), record)
        self._place.push_file(run_directory(Path(), run) / heartbeat.FAILURE)
        if run not in self._failed:
            self._failed.add(run)
            self._report(Event(run, "failed", text=failure.message))

    def _incomplete(self, run: RunId) -> Failure | None:
        """Return a failure if a job succeeded but results are missing."""
        complete = [has_results(self._experiment, run, self._output, s) for s in self._steps(run)]
        if all(complete):
            return None
        return Failure(
            f"the job succeeded, but {complete.count(False)} of {len(complete)} checkpoints are "
            f"not measured in {run_directory(self._output, run)}. If workers use another file "
            "system, choose a store that all can reach: --output s3://...",
            of_machine=True,
        )

    def _steps(self, run: RunId) -> list[int]:
        arm = self._experiment.arms[run.arm]
        return self._experiment.evaluation.checkpoint_steps(arm.training.steps)

    def _evaluates_separately(self, run: RunId) -> bool:
        return self._requests[str(run)].part == "train"

    def _measure(self, run: RunId, steps: Iterable[int]) -> list[Job]:
        """Return jobs for those of ``steps`` that are neither measured nor being measured."""
        jobs = []
        for step in steps:
            if (
                self._evaluates_separately(run)
                and step in self._steps(run)
                and (run, step) not in self._submitted
                and not has_results(self._experiment, run, self._output, step)
            ):
                self._submitted.add((run, step))
                request = replace(self._requests[str(run)], part="measure", step=step)
                jobs.append(self._job(request))
        return jobs

    def _job(self, request: RunRequest) -> Job:
        run, step = request.run, request.step
        name = f"{run}" if step is None else f"{run}, step {step}"
        self._requests[name] = request
        self._unfinished[run] = self._unfinished.get(run, 0) + 1
        resources = self._experiment.resources
        if request.part == "measure":  # in one process
            gpus = min(1, resources.gpus)
            resources = resources.model_copy(update={"processes": 1, "gpus": gpus})
        return Job(name, execute_request, (request,), resources, Event)


def experiment_digest(experiment: Experiment) -> str:
    """Return a hash of all settings of an experiment."""
    return fingerprint(experiment.model_dump(mode="json"))
