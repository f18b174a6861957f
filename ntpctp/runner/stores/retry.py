"""Errors of a store: retried if they may pass, otherwise explained to the user."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from ntpctp._core.errors import InputError
from ntpctp.runner.stores.urls import scrubbed, shown

T = TypeVar("T")

WAITS = (1.0, 4.0, 15.0)
"""Seconds before the second, third and fourth attempt; libraries retry within each attempt."""

# Errors of a disk that retrying cannot cure.
_LASTING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOTEMPTY,
}


def with_retries(url: str, what: str, action: Callable[[], T]) -> T:
    """Return the result of ``action``; retry it up to three times if it fails.

    Args:
        url: of the store, for messages.
        what: the action in words, for messages: "read run.json".
        action: may be repeated.

    Raises:
        InputError: if the user must act: no credentials, no permission, no bucket.
        FileNotFoundError: if a file to be read is missing.
        OSError: if the last attempt failed, or retrying is pointless.
        Exception: a bug of this program, as ``action`` raised it.
    """
    start = time.monotonic()
    for attempt, wait in enumerate((*WAITS, None), start=1):
        try:
            return action()
        except Exception as error:
            if not _is_external(error):
                raise
            raw = f"{type(error).__name__}: {error}"
            text, advice = scrubbed(raw, url), _advice(error)
            cause = error if text == raw else None  # its traceback would show the secrets
            failed = f"{shown(url)}: cannot {what}"
            if advice is not None:
                raise InputError(f"{failed} ({text}); {advice}") from cause
            if isinstance(error, FileNotFoundError):
                raise FileNotFoundError(f"{failed}: no such file") from cause
            if wait is None or getattr(error, "errno", None) in _LASTING:
                seconds = time.monotonic() - start
                raise OSError(
                    f"{failed} ({text}); tried {attempt} times in {seconds:.0f} s. Stored files "
                    "are unchanged. Run the same command again to resume once the store responds"
                ) from cause
        time.sleep(wait)
    raise AssertionError("unreachable")


def _is_external(error: Exception) -> bool:
    """Whether an error comes from the system or a library, not from this program."""
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | NotImplementedError) or package not in ("builtins", "ntpctp")


def _advice(error: Exception) -> str | None:
    """Return what the user can do about an error; None: nothing, it may pass."""
    # The libraries that define these types may not be installed, so their names must do.
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    if "Credential" in names or "ProfileNotFound" in names or isinstance(error, PermissionError):
        return (
            "check the credentials (for s3://, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a "
            "profile in ~/.aws) and their permissions there"
        )
    if isinstance(error, NotImplementedError):
        return "this protocol cannot write; choose another, such as s3:// or gs://"
    if "ParamValidation" in names:
        return "correct the URL"
    text = f"{error} {error.__cause__}".lower()
    if isinstance(error, FileNotFoundError) and "bucket" in text and "not exist" in text:
        return "create the bucket, or correct the URL"
    return None
