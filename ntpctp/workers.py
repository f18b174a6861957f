"""Independent jobs side by side on the cores of this machine, one process and one thread each.

For small models several one-thread processes finish far sooner than one process with all threads.
A job that fails, or is killed, does not disturb the others.
"""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from ntpctp.errors import InputError

_POLL_SECONDS = 0.5


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Failure:
    """Why a job did not end well."""

    message: str
    traceback: str | None  # None where the user's input is to blame, or the process was killed


@dataclass
class _Running:
    process: Any
    connection: Connection
    failure: Failure | None = None
    finished: bool = False


def run_side_by_side(
    jobs: Mapping[str, tuple[Any, ...]],
    work: Callable[..., None],
    *,
    workers: int,
    threads: int,
    on_event: Callable[[Any], None],
    preload: Sequence[str] = (),
) -> dict[str, Failure]:
    """Call ``work(*arguments, send)`` for every job, at most ``workers`` at once.

    Args:
        jobs: arguments by the job's name; they and the events are pickled.
        work: a module-level function; its last argument sends an event to ``on_event`` here.
        workers: processes at once.
        threads: of torch, in each process.
        on_event: called in this process.
        preload: modules that are imported once and then shared by all processes.

    Returns:
        The jobs that failed. On KeyboardInterrupt all processes are killed before it is passed on.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *preload])
    waiting = list(jobs.items())
    running: dict[str, _Running] = {}
    failures: dict[str, Failure] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, arguments = waiting.pop(0)
                receiving, sending = context.Pipe(duplex=False)
                process = context.Process(
                    target=_child, args=(work, arguments, sending, threads), name=name, daemon=True
                )
                process.start()
                sending.close()
                running[name] = _Running(process, receiving)
            wait([job.connection for job in running.values()], timeout=_POLL_SECONDS)
            for name, job in list(running.items()):
                _drain(job, on_event)
                if job.finished:
                    job.process.join()
                    del running[name]
                    if job.failure:
                        failures[name] = job.failure
    finally:
        for job in running.values():
            job.process.kill()
        for job in running.values():
            job.process.join()
    return failures


def _drain(job: _Running, on_event: Callable[[Any], None]) -> None:
    """Pass on what a job has sent; the end of its pipe is the end of the job."""
    try:
        while job.connection.poll():
            message = job.connection.recv()
            if isinstance(message, Failure):
                job.failure = message
            else:
                on_event(message)
    except EOFError:
        job.process.join()
        job.finished = True
        code = job.process.exitcode
        if code and job.failure is None:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            job.failure = Failure(f"its process ended early: {how}", None)


def _child(
    work: Callable[..., None], arguments: tuple[Any, ...], sending: Connection, threads: int
) -> None:
    import torch

    # The parent decides what an interruption means; it kills us if it has to.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    try:
        work(*arguments, sending.send)
    except BrokenPipeError:
        raise SystemExit(1) from None  # the parent is gone
    except (InputError, OSError) as error:
        sending.send(Failure(str(error), None))
        raise SystemExit(2) from None
    except Exception as error:
        sending.send(Failure(f"{type(error).__name__}: {error}", traceback.format_exc()))
        raise SystemExit(1) from None
