"""Several experiments on one engine at once: none waits for the last run of another."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ntpctp.runner.engines import Failure, Job, Note
from ntpctp.runner.events import Event
from ntpctp.runner.worker import Watch


@dataclass(frozen=True)
class Told:
    """What a job of one of the experiments has sent."""

    experiment: str
    event: Event


class Together:
    """A watcher of the jobs of several experiments, each of which has its own.

    Attributes:
        first: the jobs to be done first, experiment by experiment.
    """

    def __init__(
        self,
        watches: Mapping[str, Watch],
        on_over: Callable[[str, dict[str, Failure]], None],
    ):
        """Begin to watch.

        Args:
            watches: name of the experiment -> who follows its runs.
            on_over: called once for each experiment, when its last job is over, with its failures;
                here already where there is nothing to do.
        """
        self._watches, self._on_over = watches, on_over
        self._of: dict[str, tuple[str, str]] = {}  # job -> its experiment, and its name there
        self._open: Counter[str] = Counter()
        self._failures: dict[str, dict[str, Failure]] = {name: {} for name in watches}
        self.first = [
            job for name, watch in watches.items() for job in self._taken(name, watch.first)
        ]
        for name in watches:
            if not self._open[name]:
                on_over(name, {})

    def on_event(self, event: Told | Note) -> list[Job]:
        """Pass on what a job, or the engine, has to tell."""
        if isinstance(event, Note):
            experiment, job = self._of[event.name]
            return self._passed_on(experiment, Note(job, event.text))
        return self._passed_on(event.experiment, event.event)

    def on_end(self, name: str, failure: Failure | None) -> list[Job]:
        """Pass on that a job is over; say so if it was the last of its experiment."""
        experiment, job = self._of.pop(name)
        if failure is not None:
            self._failures[experiment][job] = failure
        more = self._taken(experiment, self._watches[experiment].on_end(job, failure))
        self._open[experiment] -= 1
        if not self._open[experiment]:
            self._on_over(experiment, self._failures[experiment])
        return more

    def _passed_on(self, experiment: str, event: Event | Note) -> list[Job]:
        return self._taken(experiment, self._watches[experiment].on_event(event))

    def _taken(self, experiment: str, jobs: list[Job]) -> list[Job]:
        """Return the jobs of an experiment with names, and news, that tell them from others'."""
        named = []
        for job in jobs:
            name = f"{experiment}: {job.name}"
            self._of[name] = experiment, job.name
            arguments = (experiment, job.work, *job.arguments)
            named.append(replace(job, name=name, work=_telling, arguments=arguments, sends=Told))
        self._open[experiment] += len(named)
        return named


def _telling(experiment: str, work: Callable[..., None], *arguments: Any) -> None:
    """Do a job that says of which experiment its news are."""
    *others, send = arguments
    work(*others, lambda event: send(Told(experiment, event)))
