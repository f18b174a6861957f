"""A large experiment (500 runs, 10,000 checkpoints, 10 million item rows): time of each command.

    python scripts/bench/load.py [--quick] [--json FILE] [--keep DIR]

Five arms, a hundred seeds, 20 checkpoints, 1,000 items, simulated as in comparing.py (--quick: ten
seeds). Rows of earlier checkpoints are hard links, so the disk holds 500,000 of them. Each command
runs as a separate process, imports included, and must exit with 0: seconds, CPU seconds, peak
memory. The progress display receives the events of 500 runs, 20 at a time, and draws into a buffer:
CPU microseconds per event.

Goals: each command within a minute and 4 GiB; an event within a millisecond.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import compared_problem
from measuring import Record, write_records

GOAL_SECONDS, GOAL_GIBIBYTES, GOAL_MICROSECONDS = 60.0, 4.0, 1000.0
SIZE, QUICK_SIZE = (5, 100, 1000, 20), (5, 10, 1000, 20)
AT_ONCE = 20


_ALONE = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
seconds = time.perf_counter() - begin
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu, gibibytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
print(json.dumps([done.returncode, done.stderr[-2000:], seconds, cpu, gibibytes]))
"""
"""Runs a command from a small process: a child inherits the peak memory of its parent."""


def measured(name: str, *arguments: str) -> Record:
    """Run a command; print and return its time and memory.

    Raises:
        SystemExit: if it fails.
    """
    command = [sys.executable, "-m", "ntpctp", *arguments]
    measurement = subprocess.run(
        [sys.executable, "-S", "-c", _ALONE, *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    code, err, seconds, cpu, gibibytes = json.loads(measurement.stdout)
    if code:
        raise SystemExit(f"{name}: exit code {code}: {err}")
    met = seconds <= GOAL_SECONDS and gibibytes <= GOAL_GIBIBYTES
    print(
        f"{name:34}{seconds:>7.1f} s{cpu:>7.1f} CPU s{gibibytes:>7.2f} GiB  "
        f"{'met' if met else 'NOT met'}",
        flush=True,
    )
    return {
        "name": name, "ours": seconds, "peer": None, "peer_name": None, "unit": "s", "ratio": None,
        "goal": GOAL_SECONDS, "met": met, "cpu_seconds": cpu, "gibibytes": gibibytes,
    }  # fmt: skip


def displayed(arms: int, seeds: int, items: int, checkpoints: int) -> Record:
    """Display the events of all runs; print and return the microseconds per event."""
    from rich.console import Console

    from ntpctp.report.terminal.progress import ProgressDisplay
    from ntpctp.runner.events import Event

    experiment = compared_problem.simulated(arms, seeds, items, checkpoints)
    console = Console(file=io.StringIO(), force_terminal=True, width=160)
    runs = experiment.runs()
    count, begin = 0, time.process_time()
    with ProgressDisplay(console, {"": experiment}) as display:
        for first in range(0, len(runs), AT_ONCE):
            group = runs[first : first + AT_ONCE]
            for step in range(0, 1900, 100):
                for run in group:
                    display.show(Event(run, "training", step, 1900, loss=1.0))
                    display.show(Event(run, "measuring", step // 100, 20))
                    count += 2
            for run in group:
                display.show(Event(run, "done"))
                count += 1
    microseconds = 1e6 * (time.process_time() - begin) / count
    met = microseconds <= GOAL_MICROSECONDS
    print(
        f"{f'progress, {count:,} events':34}{microseconds:>7.0f} us  {'met' if met else 'NOT met'}"
    )
    return {
        "name": "progress display, an event", "ours": microseconds, "peer": None,
        "peer_name": None, "unit": "us", "ratio": None, "goal": GOAL_MICROSECONDS, "met": met,
    }  # fmt: skip


def main() -> None:
    """Create the experiment, run the commands, print, and write the rows if requested."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="50 runs")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument(
        "--keep", type=Path, help="create the experiment here, or reuse an existing one"
    )
    arguments = parser.parse_args()
    size = QUICK_SIZE if arguments.quick else SIZE
    with tempfile.TemporaryDirectory() as place:
        directory = (arguments.keep or Path(place)) / "simulated"
        if not directory.exists():
            compared_problem.make(directory, compared_problem.simulated(*size))
        print(f"{len(list(directory.glob('*/*/train/step-*'))):,} checkpoints", flush=True)
        output, file = str(directory), str(directory / "experiment.yaml")
        records = [
            displayed(*size),
            measured("status", "status", output),
            measured("status --json --all", "status", output, "--json"),
            measured("list", "list", file),
            measured("audit", "audit", file),
            measured("run --plan", "run", file, "--plan"),
            measured("compare", "compare", output),
            measured("compare --format csv", "compare", output, "--format", "csv"),
            measured("report", "report", output),
            measured("report of the directory above", "report", str(directory.parent)),
            measured("calibrate", "calibrate", output),
        ]
        megabytes = (directory / "report.html").stat().st_size / 1e6
        print(f"report.html: {megabytes:.1f} MB")
    if arguments.json:
        write_records(arguments.json, records, ("numpy", "pandas", "pyarrow", "scipy", "rich"))


if __name__ == "__main__":
    main()
