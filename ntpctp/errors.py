"""The error that a user can cause, and the look-up that offers the nearest valid name."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message names what was expected, what was found, where, and what to do. Commands print it
    without a traceback and end with exit code 2; every other exception is a fault of this program.
    """


class NotFiniteError(InputError):
    """A number is NaN or infinite where only a finite one has a meaning."""


class BusyError(InputError):
    """Another process works on the same; once it has ended, the same command carries on."""


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
