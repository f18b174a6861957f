"""Locks between processes, held by ``flock``: the kernel releases them, however a process ends."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ntpctp._core.errors import BusyError

_ATTEMPTS = 1000
"""To lock a file in a directory that other processes create and delete: microseconds each."""


@contextmanager
def locked(directory: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``.lock`` of ``directory``, which stays there.

    Args:
        directory: created if it is missing.
        what: the work that the lock protects, for the message.
        patience: seconds to wait for another process to release the lock.

    Raises:
        BusyError: if another process still holds the lock after ``patience`` seconds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # A soft lock, where the file system has no flock, would outlive a killed process.
    lock = FileLock(directory / ".lock", patience, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"{directory}: another process is working on {what}. Wait for it, stop it, or choose "
            "another --output"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait for the lock file ``path``, hold it, and delete it afterwards.

    Directories that were created for the file are deleted too, if they are empty then.
    """
    created = [parent for parent in path.parents if not parent.exists()]
    lock = FileLock(path, fallback_to_soft=False)
    for attempt in range(_ATTEMPTS):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            break
        except (FileExistsError, FileNotFoundError):
            # Another process has just deleted the empty directory, between any two system calls.
            # Where a file or a dangling link takes its place, no further attempt would help.
            if attempt == _ATTEMPTS - 1:
                raise
    try:
        yield
    finally:
        path.unlink()  # while it is held: who waits for it notices, and creates a new one
        lock.release()
        with suppress(OSError):  # the innermost first; a directory with content stays
            for parent in created:
                parent.rmdir()
