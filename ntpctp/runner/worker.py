"""What is done for a run, wherever an engine does it, and what is made of what it tells."""

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
from ntpctp.runner.run import Link, evaluate_run, execute, has_results
from ntpctp.runner.stores import Store
from ntpctp.training.accelerator import accelerator_here


@dataclass(frozen=True)
class RunTask:
    """A run, or a part of one, to be done by whoever gets this.

    Attributes:
        content: of the experiment file, resolved.
        run: which.
        output: directory of the experiment; with a store, its part below the store.
        store: URL; None: ``output`` is a directory that the worker sees.
        driver: the driver's copy of the store: what ``content`` names in it, workers bring.
        data_fingerprint: of the data that all runs have to be trained on.
        part: ``train``: its checkpoints are measured by others; ``measure``: one of these.
        step: of the checkpoint to measure.
        patience: seconds to wait for a process that still works on this run.
        resources: see ``Resources``.
        launch_config: content of the configuration file of accelerate, see ``Resources``.
        offline: whether nothing may be fetched: a worker need not have the driver's environment.
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


def do(task: RunTask, send: Callable[[Event], None]) -> None:
    """Do a task, in as many processes as its resources say."""
    asked = Resources.model_validate(task.resources or {})
    if asked.num_processes == 1 or task.part == "measure":
        do_here(task, send)
        return
    failure = launch(
        "ntpctp.runner.worker_main", asdict(task), asked, send, Event, task.launch_config
    )
    if failure is not None:
        raise Failed(failure)


def do_here(task: RunTask, send: Callable[[Event], None]) -> None:
    """Do a task in this process, or as one of several that were launched for it.

    Raises:
        InputError: if the data are not those that the experiment started with, and as ``execute``.
    """
    quiet_libraries()
    if task.offline:
        go_offline()
    content, output, store = dict(task.content), Path(task.output), None
    if task.store is not None:
        store = Store(task.store, warn=lambda text: send(Event(task.run, "warning", text=text)))
        output = store.copy / task.output
        content["seeds"] = [task.run.seed]  # what those of others start from is not brought
        with alone(store.copy / ".inputs"):
            content = download_inputs(content, Path(task.driver or ""), store, task.run.seed)
    experiment, data = _prepared(json.dumps(content), output)
    if data.fingerprint != task.data_fingerprint:
        raise InputError(
            f"the data are not those that the experiment started with: the task "
            f"{experiment.task.name!r} gives other examples each time it is read, or its files "
            "have changed since; arms must train on the same data"
        )
    link = Link() if store is None else _link(store, task)
    try:
        if task.part == "measure":
            link.pull()
            device = accelerator_here().device
            evaluate_run(experiment, data, task.run, output, device, send, only=task.step)
            link.push()
        else:
            execute(
                experiment,
                data,
                task.run,
                output,
                send,
                measures=task.part == "all",
                patience=task.patience,
                link=link,
            )
    finally:
        # A worker of Ray goes on with another arm, which may want another precision.
        if "WORLD_SIZE" not in os.environ:
            AcceleratorState._reset_state(reset_partial_state=True)


def _link(store: Store, task: RunTask) -> Link:
    """Return the link to the part of a store that a task changes."""
    part = run_directory(Path(task.output), task.run)
    if task.step is not None:
        part = checkpoint_directory(stage_directory(Path(task.output), task.run), task.step)
    return Link(partial(store.pull, part.as_posix()), partial(store.push, part.as_posix()))


@lru_cache(maxsize=2)
def _prepared(content: str, output: Path) -> tuple[Experiment, Data]:
    """Return an experiment and its data; a worker that gets several of its runs reads them once."""
    experiment = experiment_of(json.loads(content), str(output / "experiment.yaml"))
    return experiment, prepare(experiment, encoded_beside(output))


class Watch:
    """Follows the runs of an experiment: passes on what they tell, and says what can be done next.

    Where checkpoints are measured apart, the training of a run is a job, and each of its
    checkpoints is one as soon as it is whole. A run is done when all of its jobs are.
    """

    def __init__(
        self,
        experiment: Experiment,
        place: ExperimentLocation,
        tasks: Iterable[RunTask],
        on_event: Callable[[Event], None],
    ):
        self._experiment, self._place, self._tell = experiment, place, on_event
        self._output = place.directory
        self._tasks: dict[str, RunTask] = {}
        self._submitted: set[tuple[RunId, int]] = set()
        self._open: dict[RunId, int] = {}
        self._failed: set[RunId] = set()
        self.first = [self._job(task) for task in tasks]

    def on_event(self, event: Event | Note) -> list[Job]:
        """Pass on an event; return the job that measures the checkpoint which it tells of."""
        if isinstance(event, Note):
            self._tell(Event(self._tasks[event.name].run, "warning", text=event.text))
            return []
        if event.run in self._open:  # late news of one that is over is no news
            self._tell(event)
            if event.kind == "checkpoint":
                return self._measure(event.run, [event.done])
        return []

    def on_end(self, name: str, failure: Failure | None) -> list[Job]:
        """Take note of the end of a job; of one that trained, return what is left to measure."""
        task = self._tasks[name]
        run, more = task.run, []
        self._place.pull_results(run_directory(Path(), run).as_posix())
        if failure is None and task.part == "all":
            failure = self._incomplete(run)
        if failure is not None:
            self._fail(run, failure)
        elif task.part == "train":
            more = self._measure(run, self._steps(run))
        self._open[run] -= 1
        if self._trains_apart(run):
            measured = sum(
                has_results(self._experiment, run, self._output, s) for s in self._steps(run)
            )
            self._tell(Event(run, "measuring", measured, len(self._steps(run))))
        if not self._open[run]:
            del self._open[run]
            if run not in self._failed:
                self._tell(Event(run, "done"))
        return more

    def _fail(self, run: RunId, failure: Failure) -> None:
        record = {**asdict(failure), "experiment": digest_of(self._experiment)}
        heartbeat.fail(run_directory(self._output, run), record)
        self._place.push_of(run_directory(Path(), run) / heartbeat.FAILURE)
        if run not in self._failed:
            self._failed.add(run)
            self._tell(Event(run, "failed", text=failure.message))

    def _incomplete(self, run: RunId) -> Failure | None:
        """Return what is wrong where a job ended well, and yet not all is there."""
        there = [has_results(self._experiment, run, self._output, s) for s in self._steps(run)]
        if all(there):
            return None
        return Failure(
            f"its job ended well, but {there.count(False)} of {len(there)} checkpoints are not "
            f"measured in {run_directory(self._output, run)}: do its workers see another file "
            "system? A store (--output s3://...) is one that all see",
            of_machine=True,
        )

    def _steps(self, run: RunId) -> list[int]:
        arm = self._experiment.arms[run.arm]
        return self._experiment.evaluation.checkpoint_steps(arm.training.steps)

    def _trains_apart(self, run: RunId) -> bool:
        return self._tasks[str(run)].part == "train"

    def _measure(self, run: RunId, steps: Iterable[int]) -> list[Job]:
        """Return jobs for those of ``steps`` that are not measured, nor being measured."""
        jobs = []
        for step in steps:
            if (
                self._trains_apart(run)
                and step in self._steps(run)
                and (run, step) not in self._submitted
                and not has_results(self._experiment, run, self._output, step)
            ):
                self._submitted.add((run, step))
                jobs.append(self._job(replace(self._tasks[str(run)], part="measure", step=step)))
        return jobs

    def _job(self, task: RunTask) -> Job:
        name = f"{task.run}" if task.step is None else f"{task.run}, step {task.step}"
        self._tasks[name] = task
        self._open[task.run] = self._open.get(task.run, 0) + 1
        asked = self._experiment.resources
        if task.part == "measure":  # in one process
            gpus = min(1, asked.gpus)
            asked = asked.model_copy(update={"processes": 1, "gpus": gpus})
        return Job(name, do, (task,), asked, Event)


def digest_of(experiment: Experiment) -> str:
    """Return what changes with anything that an experiment file says."""
    return fingerprint(experiment.model_dump(mode="json"))
