"""Jobs: what an engine executes, somewhere, and what it tells of them."""

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
        name: one job's alone.
        work: a module-level function; its last argument sends an event to the watcher.
        arguments: the others; pickled, as are the events.
        resources: what it may use.
        sends: the dataclass of its events, which some engines pass on as JSON.
    """

    name: str
    work: Callable[..., None]
    arguments: tuple[Any, ...]
    resources: Resources = field(default_factory=Resources)
    sends: type[Any] = dict


@dataclass(frozen=True)
class Failure:
    """Why a job did not end well, without the secrets of the environment that it was made in.

    Attributes:
        message: one sentence.
        traceback: None where the user's input is to blame, or the process is gone.
        of_machine: whether the machine is to blame: it went away, its disk or memory is full, it
            told the process to stop, another process works on the same. The job itself did nothing
            wrong, and may be begun again unasked.
    """

    message: str
    traceback: str | None = None
    of_machine: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", scrubbed(self.message))
        if self.traceback is not None:
            object.__setattr__(self, "traceback", scrubbed(self.traceback))


class Failed(Exception):
    """Raised by a job whose own processes have failed; the failure is theirs."""

    def __init__(self, failure: Failure):
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class Note:
    """What an engine itself has to say of a job."""

    name: str
    text: str


class Watcher(Protocol):
    """Who is told what happens; both are called in the process that called the engine."""

    def on_event(self, event: Any) -> Iterable[Job]:
        """Take note of what a job has sent; return jobs that can be done now."""

    def on_end(self, name: str, failure: Failure | None) -> Iterable[Job]:
        """Take note that a job is over; return jobs that can be done now."""


class Engine(Protocol):
    """Where jobs are executed."""

    @property
    def name(self) -> str:
        """As ``--on`` has it."""

    @property
    def measures_apart(self) -> bool:
        """Whether checkpoints are measured in jobs of their own, while training goes on.

        It is worth it where jobs cost little and machines are many.
        """

    def run(self, jobs: Iterable[Job], watcher: Watcher) -> Mapping[str, Failure]:
        """Do all jobs and those that the watcher adds.

        One that fails does not disturb the others.

        Returns:
            The jobs that failed, by name.

        Raises:
            InputError: if the engine cannot be used here.
        """


def attempt(job: Job, send: Callable[[Any], None]) -> Failure | None:
    """Do a job in this process; whatever it raises becomes a failure, also where it is unpickled.

    BrokenPipeError passes: nobody listens any more.
    """
    try:
        with signals.at_once():  # whatever a request to stop turns into on its way
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
