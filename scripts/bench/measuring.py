"""Shared by the benchmarks: fresh processes, peak memory, and the machine's matmul peak."""

import json
import multiprocessing
import os
import platform
import resource
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

from ntpctp.runner.plan import matmul_rate as matmul_peak

__all__ = ["PeakGrowth", "Record", "in_own_process", "matmul_peak", "write_records"]

Record = dict[str, Any]
T = TypeVar("T")


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], results: Any) -> None:
    torch.set_num_threads(1)
    results.put(function(*arguments))


def in_own_process(function: Callable[..., T], *arguments: Any) -> T:
    """Return ``function(*arguments)``, computed by one thread of a fresh process.

    Raises:
        RuntimeError: if the process ends without a result.
    """
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_call, args=(function, arguments, results))
    process.start()
    # Read the result before joining: a full pipe would keep the process from ending.
    while process.is_alive() and results.empty():
        time.sleep(0.05)
    if results.empty():
        process.join()
        raise RuntimeError(f"{function.__name__}{arguments}: exit code {process.exitcode}")
    result: T = results.get()
    process.join()
    return result


class PeakGrowth:
    """Context manager: growth of the process's peak memory over its memory on entry, in MiB."""

    def __enter__(self) -> "PeakGrowth":
        """Record the current memory."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self._before = pages * resource.getpagesize()
        return self

    def __exit__(self, *error: object) -> None:
        """Read the peak."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        self.mebibytes = (peak - self._before) / 2**20


def write_records(path: Path, records: Iterable[Record], packages: Iterable[str]) -> None:
    """Write the measurements with the machine and the versions of ``packages``."""
    machine = {
        "cores": os.cpu_count(),
        "threads": 1,
        "machine": platform.machine(),
        "versions": {name: version(name) for name in packages},
    }
    content = json.dumps({"machine": machine, "rows": list(records)}, indent=2)
    path.write_text(content + "\n", "utf-8")
