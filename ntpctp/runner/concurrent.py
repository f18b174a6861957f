"""Several experiments on one engine at once, so that none waits for the last run of another."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ntpctp.runner.engines import Failure, Job, Note
from ntpctp.runner.events import Event
from ntpctp.runner.worker import RunWatcher


@dataclass(frozen=True)
class ExperimentEvent:
    """An event of a job, with the name of its experiment."""

    experiment: str
    event: Event


class ConcurrentWatcher:
    """A watcher of several experiments; passes events and ends on to the watcher of each.

    Attributes:
        initial_jobs: experiment by experiment.
    """

    def __init__(
        self,
        watchers: Mapping[str, RunWatcher],
        on_finished: Callable[[str, dict[str, Failure]], None],
    ):
        """Start watching.

        Args:
            watchers: by name of the experiment.
            on_finished: called once for each experiment, when its last job has ended, with its
                failures; called here already for an experiment without jobs.
        """
        self._watchers, self._on_finished = watchers, on_finished
        self._origin: dict[str, tuple[str, str]] = {}  # job -> its experiment, and its name there
        self._unfinished: Counter[str] = Counter()
        self._failures: dict[str, dict[str, Failure]] = {name: {} for name in watchers}
        self.initial_jobs = [
            job
            for name, watcher in watchers.items()
            for job in self._wrapped(name, watcher.initial_jobs)
        ]
        for name in watchers:
            if not self._unfinished[name]:
                on_finished(name, {})

    def on_event(self, event: ExperimentEvent | Note) -> list[Job]:
        """Pass on an event of a job, or a note of the engine."""
        if isinstance(event, Note):
            experiment, job = self._origin[event.name]
            return self._pass_on(experiment, Note(job, event.text))
        return self._pass_on(event.experiment, event.event)

    def on_end(self, name: str, failure: Failure | None) -> list[Job]:
        """Pass on the end of a job; call ``on_finished`` after the last of an experiment."""
        experiment, job = self._origin.pop(name)
        if failure is not None:
            self._failures[experiment][job] = failure
        more = self._wrapped(experiment, self._watchers[experiment].on_end(job, failure))
        self._unfinished[experiment] -= 1
        if not self._unfinished[experiment]:
            self._on_finished(experiment, self._failures[experiment])
        return more

    def _pass_on(self, experiment: str, event: Event | Note) -> list[Job]:
        return self._wrapped(experiment, self._watchers[experiment].on_event(event))

    def _wrapped(self, experiment: str, jobs: list[Job]) -> list[Job]:
        """Return jobs whose names and events carry the name of their experiment."""
        wrapped = []
        for job in jobs:
            name = f"{experiment}: {job.name}"
            self._origin[name] = experiment, job.name
            arguments = (experiment, job.work, *job.arguments)
            wrapped.append(
                replace(
                    job,
                    name=name,
                    work=_send_with_experiment,
                    arguments=arguments,
                    event_type=ExperimentEvent,
                )
            )
        self._unfinished[experiment] += len(wrapped)
        return wrapped


def _send_with_experiment(experiment: str, work: Callable[..., None], *arguments: Any) -> None:
    """Execute a job and send its events as ``ExperimentEvent``."""
    *others, send = arguments
    work(*others, lambda event: send(ExperimentEvent(experiment, event)))
