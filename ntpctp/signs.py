"""Signs of life of a run: who works on it, and why it failed.

<output>/<arm>/seed-<k>/worker.json    host, process and start of who works, or worked last, on it
<output>/<arm>/seed-<k>/failure.json   why it failed, with traceback; gone when it is begun again
"""

import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ntpctp.storage import read_json, write_json

WORKER, FAILURE = "worker.json", "failure.json"


def begin(directory: Path) -> None:
    """Record who works on the run in ``directory``; what is said of an earlier failure is over."""
    (directory / FAILURE).unlink(missing_ok=True)
    write_json(
        directory / WORKER,
        {"host": platform.node(), "process": os.getpid(), "started": time.time()},
    )


def fail(directory: Path, message: str, traceback: str | None) -> None:
    """Record why the run in ``directory`` failed.

    Where nothing can be written, which may be why it failed, it is only reported by who called it.
    """
    record = {"message": message, "traceback": traceback, "time": time.time()}
    with suppress(OSError):
        write_json(directory / FAILURE, record)


def read_worker(directory: Path) -> dict[str, Any]:
    """Return what ``begin`` wrote last; empty if it never did."""
    return _read(directory / WORKER) or {}


def read_failure(directory: Path) -> dict[str, Any] | None:
    """Return what ``fail`` wrote, if the run was not begun again since."""
    return _read(directory / FAILURE)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found: dict[str, Any] = read_json(path)
    return found
