"""What goes wrong between here and a store: tried again, or said so that the user can act."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from ntpctp._core.errors import InputError
from ntpctp.runner.stores.urls import scrubbed, shown

T = TypeVar("T")

WAITS = (1.0, 4.0, 15.0)
"""Seconds before a second, third and fourth attempt; libraries try several times within each."""

# A disk that is full or read-only stays so.
_LASTING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOTEMPTY,
}
_CREDENTIALS = (
    "check the credentials (for s3://, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile in "
    "~/.aws) and what they allow there"
)


def persistently(url: str, what: str, action: Callable[[], T]) -> T:
    """Return what ``action`` does; where the network fails, it is tried again, four times in all.

    Args:
        url: of the store, for messages.
        what: is done, for messages: "read run.json".
        action: may be repeated.

    Raises:
        InputError: if the user has to act: no credentials, no permission, no bucket.
        FileNotFoundError: if what is read is not there.
        OSError: if the last attempt failed, or one for a reason that lasts.
        Exception: whatever else is a fault of this program, as ``action`` raised it.
    """
    begun = time.monotonic()
    for attempt, wait in enumerate((*WAITS, None), start=1):
        try:
            return action()
        except Exception as error:
            if not _is_from_outside(error):
                raise
            raw = f"{type(error).__name__}: {error}"
            said, advice = scrubbed(raw, url), _advice(error)
            cause = error if said == raw else None  # a traceback shows the cause's own text
            if isinstance(error, FileNotFoundError) and advice is None:
                raise FileNotFoundError(f"{shown(url)}: cannot {what}: nothing is there") from cause
            if advice is not None:
                raise InputError(f"{shown(url)}: cannot {what} ({said}); {advice}") from cause
            if wait is None or getattr(error, "errno", None) in _LASTING:
                seconds = time.monotonic() - begun
                raise OSError(
                    f"{shown(url)}: cannot {what} ({said}); tried {attempt} times in "
                    f"{seconds:.0f} s. What is stored is untouched: the same command carries on "
                    "once the store can be reached"
                ) from cause
        time.sleep(wait)
    raise AssertionError("unreachable")


def _is_from_outside(error: Exception) -> bool:
    """Whether it comes from the system or a library: not a fault of, or a signal to, our code."""
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | NotImplementedError) or package not in ("builtins", "ntpctp")


def _advice(error: Exception) -> str | None:
    """Return what the user can do about ``error``; None: nothing, it may pass."""
    # The libraries that define these may not be installed, so they are known by name.
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    if "Credential" in names or "ProfileNotFound" in names or isinstance(error, PermissionError):
        return _CREDENTIALS
    if isinstance(error, NotImplementedError):
        return (
            "nothing can be written through this protocol; choose another, such as s3:// or gs://"
        )
    if "ParamValidation" in names:
        return "correct the URL"
    text = f"{error} {error.__cause__}".lower()
    if isinstance(error, FileNotFoundError) and "bucket" in text and "not exist" in text:
        return "create the bucket, or correct the URL"
    return None
