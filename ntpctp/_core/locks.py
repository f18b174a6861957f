"""One process at a time: locks that end with the process that holds them, however it ends."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ntpctp._core.errors import BusyError


@contextmanager
def locked(directory: Path, what: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of ``directory``; it is released when the process ends, however it ends.

    Args:
        directory: made if it is not there.
        what: is being worked on, for the message.
        patience: seconds to wait for another process to release it.

    Raises:
        BusyError: if another process holds it for longer; nothing interleaves.
    """
    directory.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + patience
    with (directory / ".lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(min(1.0, patience))
                    continue
                raise BusyError(
                    f"{directory}: another process is working on {what}; wait for it, stop it, or "
                    "choose another --output"
                ) from None
        yield


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the file ``lock``, and hold it; it is gone afterwards.

    So are the directories that were made for it, if nothing was put into them.
    """
    made = [path for path in lock.parents if not path.exists()]
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = lock.open("a")
        except FileNotFoundError:
            continue  # another process has just removed the empty directory
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever held it before may have deleted it, and a third process made it anew.
            if not lock.is_file() or lock.stat().st_ino != os.fstat(file.fileno()).st_ino:
                continue
            try:
                yield
            finally:
                lock.unlink()
                with suppress(OSError):  # the innermost first; one with content stays
                    for path in made:
                        path.rmdir()
            return
