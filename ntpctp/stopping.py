"""A request to stop: SIGTERM, as batch systems and spot machines send it shortly before SIGKILL.

A process that listens is stopped by ``Stopped``, raised wherever it is at that moment: what is
stored is whole, and the same command carries on from it. Training defers this until it has stored
what it did since its last checkpoint.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(Exception):
    """The process was asked to stop, and has stored what it could.

    Attributes:
        step: of the checkpoint that training carries on from; None: it was not training.
    """

    def __init__(self, step: int | None = None):
        super().__init__(step)  # what pickle makes it again from, in another process
        self.step = step

    def __str__(self) -> str:
        where = "" if self.step is None else f" at step {self.step}"
        return f"stopped on request{where}; the same command carries on"


# Of this process: it has one main thread, and signals arrive nowhere else.
_asked = False
_deferring = False
_handlers: dict[int, Any] = {}  # before listen(), by signal


def listen(*more: int) -> None:
    """Let SIGTERM, and the signals ``more``, stop this process by ``Stopped`` from now on.

    Only the first of them raises: the second must not disturb what ends orderly after it.

    Raises:
        ValueError: outside of the main thread.
    """
    for number in (signal.SIGTERM, *more):
        before = signal.signal(number, _on_signal)
        _handlers.setdefault(number, before)


def asked() -> bool:
    """Whether this process was asked to stop."""
    return _asked


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a request only sets what ``asked`` tells; at the end, it raises ``Stopped``."""
    global _deferring
    before = _deferring
    try:
        _deferring = True
        yield
    finally:
        _deferring = before
    if _asked and not _deferring:
        raise Stopped


@contextmanager
def at_once() -> Iterator[None]:
    """Undo ``deferred``: inside, a request raises ``Stopped``, also one that was made before.

    So it leaves no other way: much code catches every ``Exception`` and raises its own, or none.
    """
    global _deferring
    before = _deferring
    try:
        _deferring = False
        if _asked:
            raise Stopped
        yield
    except Exception as error:
        if _asked and not isinstance(error, Stopped):
            raise Stopped from error
        raise
    finally:
        _deferring = before
    if _asked:
        raise Stopped


def reset() -> None:
    """Forget every request, and let signals do what they did before ``listen``.

    For a process that goes on with something else, as the workers of a pool do.
    """
    global _asked, _deferring
    while _handlers:
        number, before = _handlers.popitem()
        # None: the handler was not set by Python, and cannot be set again from here.
        signal.signal(number, signal.SIG_DFL if before is None else before)
    _asked = _deferring = False


@contextmanager
def listening(*more: int) -> Iterator[None]:
    """Inside, ``listen``; afterwards, ``reset``, where this process did not listen before."""
    nested = bool(_handlers)
    listen(*more)
    try:
        yield
    finally:
        if not nested:
            reset()


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _asked
    first, _asked = not _asked, True
    if first and not _deferring:
        raise Stopped
