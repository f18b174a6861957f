"""The error that a user can cause, and the look-up that offers the nearest valid name."""

import errno
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")
_NO_MEMORY = ("can't allocate memory", "bad_alloc", os.strerror(errno.ENOMEM))


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message names what was expected, what was found, where, and what to do. Commands print it
    without a traceback and end with exit code 2; every other exception is a fault of this program.
    """


class NotFiniteError(InputError):
    """A number is NaN or infinite where only a finite one has a meaning."""


class BusyError(InputError):
    """Another process works on the same; once it has ended, the same command carries on."""


def lacks_memory(error: BaseException | None) -> bool:
    """Whether it all began with memory of the host, not of a GPU, that was not to be had.

    torch, safetensors and tokenizers have errors of their own for it, and who called them others.

    >>> lacks_memory(RuntimeError("unable to mmap 8 bytes: Cannot allocate memory (12)"))
    True
    """
    while error is not None:
        # What an InputError says may be the user's own words.
        said = "" if isinstance(error, InputError) else str(error)
        if any(words in said for words in _NO_MEMORY):
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
        InputError: if ``name`` is unknown; offers the nearest name and lists all valid ones.
    """
    if name not in table:
        raise InputError(
            f"unknown {kind} {name!r}{nearest(name, table)} (expected one of: "
            f"{', '.join(sorted(table))})"
        )
    return table[name]
