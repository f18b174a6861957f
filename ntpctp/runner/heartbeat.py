"""Heartbeat and failure record of a run.

<output>/<arm>/seed-<k>/worker.json    host, process and start time of the run's current or last
                                       worker, and the time of its last heartbeat
<output>/<arm>/seed-<k>/failure.json   why the run failed, with traceback; deleted on restart
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
HEARTBEAT_SECONDS = 20.0
"""Between two heartbeats."""
TIMEOUT_SECONDS = 120.0
"""Without a heartbeat, after which a worker on another machine counts as dead."""


@contextmanager
def keep_alive(directory: Path, on_beat: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Register this process as the worker of a run, and write heartbeats during the body.

    Deletes the record of an earlier failure.

    Args:
        directory: of the run.
        on_beat: called with every heartbeat, in a thread of its own; its errors are ignored.
    """
    (directory / FAILURE).unlink(missing_ok=True)
    worker = {"host": platform.node(), "process": os.getpid(), "started": time.time()}
    write_json(directory / WORKER, {**worker, "alive": time.time()})
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            # Training itself will report a full disk or an unreachable store.
            with suppress(Exception):
                write_json(directory / WORKER, {**worker, "alive": time.time()})
                on_beat()

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with suppress(OSError):
            write_json(directory / WORKER, {**worker, "alive": time.time()})


def write_failure(directory: Path, failure: dict[str, Any]) -> None:
    """Record why the run in ``directory`` failed: ``message``, ``traceback`` and more.

    Does nothing if the disk refuses, which may be why the run failed; the caller reports it anyway.
    """
    with suppress(OSError):
        write_json(directory / FAILURE, {**failure, "time": time.time()})


def read_worker(directory: Path | str) -> dict[str, Any]:
    """Return the content of ``worker.json``; empty if the run was never started."""
    path = f"{directory}/{WORKER}"
    record = _read(path) or {}
    if not isinstance(record.get("alive", 0.0), int | float):
        raise InputError(
            f"{path}: the field 'alive' (time of the last heartbeat) is not a number. Delete it"
        )
    return record


def read_failure(directory: Path | str) -> dict[str, Any] | None:
    """Return the content of ``failure.json``; None: the run did not fail, or was restarted."""
    path = f"{directory}/{FAILURE}"
    record = _read(path)
    if record is not None and not isinstance(record.get("message"), str):
        raise InputError(f"{path}: the field 'message' is not a text. Delete the file")
    return record


def _read(path: str) -> dict[str, Any] | None:
    """Read a record by its descriptor: for ten thousand runs, three times as fast as open()."""
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        record: Any = json.loads(os.read(file, os.fstat(file).st_size))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: invalid JSON: {error}. Delete the file") from error
    finally:
        os.close(file)
    if not isinstance(record, dict):
        raise InputError(
            f"{path}: expected a JSON object, found {type(record).__name__}. Delete the file"
        )
    return record
