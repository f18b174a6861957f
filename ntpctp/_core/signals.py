"""Requests to stop: SIGTERM, which batch systems and spot machines send shortly before SIGKILL.

In a process that listens, a signal raises ``Stopped`` wherever the code is at that moment. Stored
files are complete, so the same command resumes from them. Training defers the exception until it
has saved a checkpoint.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(Exception):
    """The process was requested to stop.

    Attributes:
        step: step of the checkpoint that training will resume from; None if it was not training.
    """

    def __init__(self, step: int | None = None):
        super().__init__(step)  # the arguments that unpickling passes, in another process
        self.step = step

    def __str__(self) -> str:
        where = "" if self.step is None else f" at step {self.step}"
        return f"stopped on request{where}; run the same command again to resume"


# State of this process; Python runs signal handlers in the main thread alone.
_requested = False
_deferring = False
_lost = False  # a finaliser swallowed the exception
_handlers: dict[int, Any] = {}  # signal -> its handler before listen()
_hook: Callable[[Any], object] | None = None  # sys.unraisablehook before listen()
_RETRY_SECONDS = 0.02


def listen(*more: int) -> None:
    """From now on SIGTERM, and the signals ``more``, raise ``Stopped`` in this process.

    Only the first signal raises: a second one must not interrupt the orderly shutdown.

    Raises:
        ValueError: outside of the main thread.
    """
    global _hook
    for number in (signal.SIGTERM, *more):
        before = signal.signal(number, _on_signal)
        _handlers.setdefault(number, before)
    if _hook is None:
        _hook, sys.unraisablehook = sys.unraisablehook, _on_unraisable


def stop_requested() -> bool:
    """Whether this process received a request to stop."""
    return _requested


@contextmanager
def deferred() -> Iterator[None]:
    """Defer ``Stopped`` to the end of the block; meanwhile ``stop_requested`` tells."""
    global _deferring
    before = _deferring
    try:
        _deferring = True
        yield
    finally:
        _deferring = before
    if _requested and not _deferring:
        raise Stopped


@contextmanager
def at_once() -> Iterator[None]:
    """Undo ``deferred`` in a block: a request raises ``Stopped``, also one that came before it.

    ``Stopped`` is raised even if code in the block caught it and raised another error, or none.
    """
    global _deferring
    before = _deferring
    try:
        _deferring = False
        if _requested:
            raise Stopped
        yield
    except Exception as error:
        if _requested and not isinstance(error, Stopped):
            raise Stopped from error
        raise
    finally:
        _deferring = before
    if _requested:
        raise Stopped


def reset() -> None:
    """Forget all requests, and restore the signal handlers from before ``listen``.

    For a process that continues with other work, such as a worker of a pool.
    """
    global _requested, _deferring, _lost, _hook
    if _hook is not None:
        sys.unraisablehook, _hook = _hook, None
    while _handlers:
        number, before = _handlers.popitem()
        # None: the handler was not set by Python, which cannot restore it.
        signal.signal(number, signal.SIG_DFL if before is None else before)
    _requested = _deferring = _lost = False


@contextmanager
def listening(*more: int) -> Iterator[None]:
    """Listen in a block; afterwards ``reset``, unless this process listened before."""
    nested = bool(_handlers)
    listen(*more)
    try:
        yield
    finally:
        if not nested:
            reset()


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _requested, _lost
    first, _requested, _lost = not _requested or _lost, True, False
    if first and not _deferring:
        raise Stopped


def _on_unraisable(lost: Any) -> None:
    """Send the signal again if Python dropped ``Stopped``, as it drops errors in a finaliser."""
    global _lost
    if isinstance(lost.exc_value, Stopped):
        _lost = True
        # From another thread, a moment later: here the exception would be dropped again.
        again = threading.Timer(_RETRY_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()
    elif _hook is not None:
        _hook(lost)
