"""Jobs in parallel on the cores of this machine, one process and one thread each.

For small models several one-thread processes finish far sooner than one process with all threads.
A job that fails, or is killed, does not disturb the others.
"""

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from ntpctp._core import signals
from ntpctp._core.runtime import isolated_imports
from ntpctp.runner.engines.base import Failure, Job, Watcher, attempt

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 8.0
"""For workers to save a checkpoint when stopped: a spot machine gives notice of ten seconds, within
which hanging workers must be killed, too."""


@dataclass
class _Running:
    process: Any
    connection: Connection
    failure: Failure | None = None
    finished: bool = False


@dataclass(frozen=True)
class Local:
    """Processes of this machine.

    Attributes:
        workers: parallel jobs.
        threads: of torch in each, unless the job sets them.
        preload: modules that are imported once and shared by all processes.
    """

    workers: int
    threads: int = 1
    preload: Sequence[str] = ()
    name: str = field(default="local", init=False)
    evaluates_separately: bool = field(default=False, init=False)

    def run(self, jobs: Iterable[Job], watcher: Watcher) -> dict[str, Failure]:
        """Execute all jobs, see ``Engine``.

        On KeyboardInterrupt or SIGTERM the processes are asked to save, killed after eight
        seconds, and the exception is raised again.
        """
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, *self.preload])
        waiting = deque(jobs)
        running: dict[str, _Running] = {}
        failures: dict[str, Failure] = {}
        try:
            while waiting or running:
                if signals.stop_requested():  # a callback may have caught the exception
                    raise signals.Stopped
                while waiting and len(running) < self.workers:
                    job = waiting.popleft()
                    running[job.name] = self._start(context, job)
                wait([each.connection for each in running.values()], timeout=_POLL_SECONDS)
                for name, each in list(running.items()):
                    for event in _drain(each):
                        waiting.extend(watcher.on_event(event))
                    if each.finished:
                        each.process.join()
                        del running[name]
                        if each.failure:
                            failures[name] = each.failure
                        waiting.extend(watcher.on_end(name, each.failure))
        except (KeyboardInterrupt, signals.Stopped):
            _end(running.values())
            raise
        finally:
            for each in running.values():
                each.process.kill()
            for each in running.values():
                each.process.join()
        return failures

    def _start(self, context: Any, job: Job) -> _Running:
        receiving, sending = context.Pipe(duplex=False)
        threads = job.resources.cpus or self.threads
        process = context.Process(
            target=_child, args=(job, sending, threads), name=job.name, daemon=True
        )
        with isolated_imports():  # the first job starts the server that all jobs are forked from
            process.start()
        sending.close()
        return _Running(process, receiving)


def _drain(running: _Running) -> list[Any]:
    """Return the events of a job; the end of its pipe is the end of the job."""
    events = []
    try:
        while running.connection.poll():
            message = running.connection.recv()
            if isinstance(message, Failure):
                running.failure = message
            else:
                events.append(message)
    except EOFError:
        running.process.join()
        running.finished = True
        code = running.process.exitcode
        if code and running.failure is None:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            running.failure = Failure(f"the process of the job ended early: {how}", of_machine=True)
    return events


def _end(running: Iterable[_Running]) -> None:
    """Ask processes to save and exit, and wait for the grace period."""
    end = time.monotonic() + _GRACE_SECONDS
    for each in running:
        each.process.terminate()
    for each in running:
        # Their events must be read, or they block on a full pipe.
        while not each.finished and time.monotonic() < end:
            wait([each.connection], timeout=0.1)
            _drain(each)


def _kill_children() -> None:
    for process in psutil.Process().children(recursive=True):
        process.kill()


def _child(job: Job, sending: Connection, threads: int) -> None:
    import torch

    # The parent handles Ctrl-C and terminates this process if needed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals.listen()
    torch.set_num_threads(threads)
    try:
        failure = attempt(job, sending.send)
        if failure is not None:
            sending.send(failure)
    except BrokenPipeError:
        raise SystemExit(1) from None  # the parent is gone
    finally:
        with suppress(signals.Stopped):  # files on disk are complete, and the process ends anyway
            _kill_children()  # of an interrupted accelerate launch
    if failure is not None:
        raise SystemExit(1)
