"""A request to stop: SIGTERM, as batch systems and spot machines send it shortly before SIGKILL.

A process that listens is stopped by ``Stopped``, raised wherever it is at that moment: what is
stored is whole, and the same command carries on from it. Training defers this until it has stored
what it did since its last checkpoint.
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
_lost = False
_handlers: dict[int, Any] = {}  # before listen(), by signal
_hook: Callable[[Any], object] | None = None  # before listen()
_AGAIN_SECONDS = 0.02


def listen(*more: int) -> None:
    """Let SIGTERM, and the signals ``more``, stop this process by ``Stopped`` from now on.

    Only the first of them raises: the second must not disturb what ends orderly after it.

    Raises:
        ValueError: outside of the main thread.
    """
    global _hook
    for number in (signal.SIGTERM, *more):
        before = signal.signal(number, _on_signal)
        _handlers.setdefault(number, before)
    if _hook is None:
        _hook, sys.unraisablehook = sys.unraisablehook, _on_unraisable


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
    global _asked, _deferring, _lost, _hook
    if _hook is not None:
        sys.unraisablehook, _hook = _hook, None
    while _handlers:
        number, before = _handlers.popitem()
        # None: the handler was not set by Python, and cannot be set again from here.
        signal.signal(number, signal.SIG_DFL if before is None else before)
    _asked = _deferring = _lost = False


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
    global _asked, _lost
    first, _asked, _lost = not _asked or _lost, True, False
    if first and not _deferring:
        raise Stopped


def _on_unraisable(lost: Any) -> None:
    """Raise ``Stopped`` again where Python drops it: out of a finaliser nothing can be raised."""
    global _lost
    if isinstance(lost.exc_value, Stopped):
        _lost = True
        # By another thread, a moment later: here it would be dropped once more.
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()
    elif _hook is not None:
        _hook(lost)
