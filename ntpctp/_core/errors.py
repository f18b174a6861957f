"""Errors that a user can cause and correct, and a look-up that suggests the nearest valid name."""

import errno
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")
_NO_MEMORY = ("can't allocate memory", "bad_alloc", os.strerror(errno.ENOMEM))


class InputError(ValueError):
    """The user's input cannot be used.

    The message states the problem, the expected and the actual value, the place, and the fix.
    Commands print it without a traceback and exit with code 2; any other exception is a bug.
    """


class NotFiniteError(InputError):
    """A number is NaN or infinite where a finite one is required."""


class BusyError(InputError):
    """Another process holds the lock; once it has ended, the same command resumes the work."""


def lacks_memory(error: BaseException | None) -> bool:
    """Whether the root cause of ``error`` is a lack of host memory (not of GPU memory).

    Follows the chain of causes: torch, safetensors and tokenizers raise error types of their own
    for it, and their callers wrap these.

    >>> lacks_memory(RuntimeError("unable to mmap 8 bytes: Cannot allocate memory (12)"))
    True
    """
    while error is not None:
        # The message of an InputError may quote the user's text.
        message = "" if isinstance(error, InputError) else str(error)
        if any(phrase in message for phrase in _NO_MEMORY):
            return True
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the valid name closest to ``name``, or an empty string.

    >>> nearest("ntpp", ["ntp", "ctp"])
    "; did you mean 'ntp'?"
    """
    matches = get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return ``table[name]``.

    Raises:
        InputError: if ``name`` is unknown; suggests the nearest name and lists all valid ones.
    """
    if name not in table:
        raise InputError(
            f"unknown {kind} {name!r}{nearest(name, table)} (expected one of: "
            f"{', '.join(sorted(table))})"
        )
    return table[name]
