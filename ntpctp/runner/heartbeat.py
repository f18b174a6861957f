"""Signs of life of a run: who works on it, and why it failed.

<output>/<arm>/seed-<k>/worker.json    host, process and start of who works, or worked last, on it,
                                       and when it was last known to be alive
<output>/<arm>/seed-<k>/failure.json   why it failed, with traceback; gone when it is begun again
"""

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ntpctp._core.errors import InputError
from ntpctp._core.files import write_json

WORKER, FAILURE = "worker.json", "failure.json"
BEAT_SECONDS = 20.0
"""Between two signs of life."""
DEAD_SECONDS = 120.0
"""After which a process on another machine, that gave no sign, is taken for dead."""


@contextmanager
def alive(directory: Path, beat: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Record who works on the run in ``directory``, and give signs of life while it does.

    What is said of an earlier failure is over.

    Args:
        directory: of the run.
        beat: called with every sign, in a thread of its own; what it raises is not heard.
    """
    (directory / FAILURE).unlink(missing_ok=True)
    worker = {"host": platform.node(), "process": os.getpid(), "started": time.time()}
    write_json(directory / WORKER, {**worker, "alive": time.time()})
    over = threading.Event()

    def give_signs() -> None:
        while not over.wait(BEAT_SECONDS):
            # Of a disk that is full, or a store that cannot be reached, training itself will tell.
            with suppress(Exception):
                write_json(directory / WORKER, {**worker, "alive": time.time()})
                beat()

    thread = threading.Thread(target=give_signs, daemon=True, name="signs of life")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            write_json(directory / WORKER, {**worker, "alive": time.time()})


def fail(directory: Path, failure: dict[str, Any]) -> None:
    """Record why the run in ``directory`` failed: ``message``, ``traceback`` and more.

    Where nothing can be written, which may be why it failed, it is only reported by who called it.
    """
    with suppress(OSError):
        write_json(directory / FAILURE, {**failure, "time": time.time()})


def read_worker(directory: Path | str) -> dict[str, Any]:
    """Return what ``alive`` wrote last; empty if it never did."""
    path = f"{directory}/{WORKER}"
    found = _read(path) or {}
    if not isinstance(found.get("alive", 0.0), int | float):
        raise InputError(f"{path}: expected the time of the last sign of life; delete it")
    return found


def read_failure(directory: Path | str) -> dict[str, Any] | None:
    """Return what ``fail`` wrote, if the run was not begun again since."""
    path = f"{directory}/{FAILURE}"
    found = _read(path)
    if found is not None and not isinstance(found.get("message"), str):
        raise InputError(f"{path}: expected the message of a failure; delete it")
    return found


def _read(path: str) -> dict[str, Any] | None:
    """Read a record; by descriptor, as of ten thousand runs that takes a third of the time."""
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        found: Any = json.loads(os.read(file, os.fstat(file).st_size))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected JSON: {error}; delete it") from error
    finally:
        os.close(file)
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(found).__name__}; delete it")
    return found
