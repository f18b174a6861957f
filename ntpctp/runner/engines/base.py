"""Jobs, failures, and the protocols of engines, which execute jobs, and of their watchers."""

import traceback as tracebacks
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ntpctp._core import signals
from ntpctp._core.errors import BusyError, InputError, lacks_memory
from ntpctp._core.redaction import scrubbed
from ntpctp.config.resources import Resources


@dataclass(frozen=True)
class Job:
    """One call in a process of its own, on this machine or another.

    Attributes:
        name: unique among the jobs of an engine.
        work: a module-level function; its last argument sends an event to the watcher.
        arguments: all but the last; pickled, as are the events.
        resources: that the job may use.
        event_type: dataclass of its events, which some engines pass on as JSON.
    """

    name: str
    work: Callable[..., None]
    arguments: tuple[Any, ...]
    resources: Resources = field(default_factory=Resources)
    event_type: type[Any] = dict


@dataclass(frozen=True)
class Failure:
    """Why a job failed; secrets of the environment are redacted.

    Attributes:
        message: one sentence.
        traceback: None if the user's input is the cause, or the process is gone.
        of_machine: whether the cause is outside of the job: its machine was lost, the disk or
            memory is full, the process was asked to stop, or another process works on the same
            run. Such a job is retried without ``--retry-failed``.
    """

    message: str
    traceback: str | None = None
    of_machine: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", scrubbed(self.message))
        if self.traceback is not None:
            object.__setattr__(self, "traceback", scrubbed(self.traceback))


class Failed(Exception):
    """Raised by a job to report the failure of the processes it has launched."""

    def __init__(self, failure: Failure):
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class Note:
    """A message of the engine itself about a job."""

    name: str
    text: str


class Watcher(Protocol):
    """Receives events and ends of jobs, in the process that called the engine."""

    def on_event(self, event: Any) -> Iterable[Job]:
        """Handle an event of a job; return jobs to be executed next."""

    def on_end(self, name: str, failure: Failure | None) -> Iterable[Job]:
        """Handle the end of a job; return jobs to be executed next."""


class Engine(Protocol):
    """Executes jobs, on this machine or others."""

    @property
    def name(self) -> str:
        """Value of ``--on``."""

    @property
    def evaluates_separately(self) -> bool:
        """Whether checkpoints are measured in separate jobs while training goes on.

        Worthwhile if jobs start cheaply and machines are many.
        """

    def run(self, jobs: Iterable[Job], watcher: Watcher) -> Mapping[str, Failure]:
        """Execute all jobs and those that the watcher adds; failed jobs do not disturb others.

        Returns:
            Failures by name of the job.

        Raises:
            InputError: if the engine cannot be used here.
        """


def attempt(job: Job, send: Callable[[Any], None]) -> Failure | None:
    """Execute a job in this process and return its failure, for any exception it raises.

    Raises:
        BrokenPipeError: if the receiver of events is gone.
    """
    try:
        with signals.at_once():  # a request to stop is raised here, even if the job catches it
            job.work(*job.arguments, send)
    except BrokenPipeError:
        raise
    except signals.Stopped as stopped:
        return Failure(str(stopped), of_machine=True)
    except Failed as failed:
        return failed.failure
    except Exception as error:
        if lacks_memory(error):
            return Failure(f"out of memory: {error}", of_machine=True)
        if isinstance(error, InputError | OSError):
            return Failure(str(error), of_machine=isinstance(error, BusyError | OSError))
        return Failure(f"{type(error).__name__}: {error}", tracebacks.format_exc())
    return None
