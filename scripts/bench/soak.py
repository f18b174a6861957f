"""An hour of small experiments: do memory, open files or processes grow?

    python scripts/bench/soak.py [--minutes 60] [--json FILE] [--keep DIR]

Two commands run in parallel, each executing one run at a time:

* many: `ntpctp run` of 500 short runs (5 arms, 100 seeds) with 20 checkpoints each, 10,000 in all,
  each measured; the driver and the fork server of its workers live throughout;
* long: `ntpctp run` of one run that writes and measures a checkpoint every 20 steps and keeps the
  weights of two; the worker lives throughout.

Sampled every five seconds: resident memory, open files and threads of each process, and the number
of processes. The median of the last third of the time is compared with that of the second third
(the first is warm-up). At the end both commands get SIGTERM and must exit with 143 within ten
seconds and leave no process behind; a command that finished before must have exited with 0.

Goals: no growth of open files or processes, memory growth of at most 2 % or 4 MiB.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
import yaml
from measuring import Record, write_records

GRACE_SECONDS, SAMPLE_SECONDS = 10.0, 5.0
MOST_SHARE, MOST_MEBIBYTES = 0.02, 4.0
SHARED: dict[str, Any] = {
    "task": {"name": "addition", "digits": 1, "train_size": 60, "test_size": 10},
    "model": {"family": "gpt2", "layers": 1, "width": 16, "heads": 2},
}
MANY: dict[str, Any] = {
    **SHARED,
    "name": "many",
    "training": {"steps": 38, "batch_size": 8, "log_every": 2},
    "arms": {
        f"wrong-{arm}": {"objective": {"name": "noisy", "rate": arm / 10}} for arm in range(5)
    },
    "seeds": 100,
    "evaluation": {"every": 2, "measures": [{"name": "accuracy", "train_items": 5}]},
}
LONG: dict[str, Any] = {
    **SHARED,
    "name": "long",
    "training": {"steps": 10_000_000, "batch_size": 8, "log_every": 10},
    "arms": {"ntp": {"objective": "ntp"}},
    "seeds": 1,
    "evaluation": {
        "every": 20,
        "keep": {"last": 2},
        "measures": [{"name": "accuracy", "train_items": 5}, {"name": "flatness", "max_items": 8}],
    },
}
Samples = dict[str, list[tuple[float, dict[str, float]]]]
"""role -> (seconds since the start, quantity -> value)."""


def start(content: dict[str, Any], directory: Path) -> subprocess.Popen[bytes]:
    """Start the command that runs an experiment."""
    path = directory / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    command = [sys.executable, "-m", "ntpctp", "run", str(path), "--workers", "1"]
    with (directory / f"{content['name']}.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--output", str(directory / content["name"])],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def role_of(process: psutil.Process, driver: int) -> str:
    """Return the role of a process of a command."""
    if process.pid == driver:
        return "driver"
    command = " ".join(process.cmdline())
    if "resource_tracker" in command:
        return "tracker"
    return "server" if process.ppid() == driver else "worker"


def sample(name: str, process: subprocess.Popen[bytes], began: float, samples: Samples) -> None:
    """Sample all processes of a command once."""
    if process.poll() is not None:
        return
    try:
        whole = psutil.Process(process.pid)
        found = [whole, *whole.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    now = time.monotonic() - began
    samples[f"{name}: all"].append((now, {"processes": len(found)}))
    for each in found:
        try:
            of_one = {
                "mebibytes": each.memory_info().rss / 2**20,
                "files": each.num_fds(),
                "threads": each.num_threads(),
            }
            samples[f"{name}: {role_of(each, process.pid)}"].append((now, of_one))
        except psutil.Error:
            continue  # it has just ended


def grown(name: str, of_role: list[tuple[float, dict[str, float]]]) -> list[Record]:
    """Compare the medians of the last and the second third of the time."""
    end = of_role[-1][0]
    second = [found for at, found in of_role if end / 3 <= at < 2 * end / 3]
    last = [found for at, found in of_role if at >= 2 * end / 3]
    records: list[Record] = []
    for key in of_role[0][1] if second and last else ():
        before, after = (statistics.median(one[key] for one in part) for part in (second, last))
        most = max(MOST_MEBIBYTES, MOST_SHARE * before) if key == "mebibytes" else 0
        records.append(
            {
                "name": f"{name}, {key}", "ours": after, "peer": before,
                "peer_name": "the second third", "unit": key, "ratio": None,
                "goal": before + most, "met": after <= before + most, "samples": len(of_role),
            }
        )  # fmt: skip
    return records


def stop(process: subprocess.Popen[bytes]) -> str:
    """Stop a command if it is still running; return what is wrong with its end, or ""."""
    if process.poll() is not None:
        return "" if process.returncode == 0 else f"exit code {process.returncode}"
    processes = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        code = process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"still running {GRACE_SECONDS:g} s after SIGTERM"
    _, left = psutil.wait_procs(processes, timeout=GRACE_SECONDS)
    if left:
        return f"left behind: {left}"
    return "" if code == 143 else f"exit code {code} after SIGTERM"


def main() -> None:
    """Run, sample, stop, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--keep", type=Path, help="run in this directory and keep it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        began, samples = time.monotonic(), defaultdict[str, Any](list)
        commands = {content["name"]: start(content, directory) for content in (MANY, LONG)}
        printed_at = 0.0
        while time.monotonic() - began < 60 * arguments.minutes:
            time.sleep(SAMPLE_SECONDS)
            for name, process in commands.items():
                sample(name, process, began, samples)
            if time.monotonic() - printed_at > 60:
                printed_at = time.monotonic()
                done = len(list((directory / "many").glob("*/seed-*/train/step-000038")))
                last = max((directory / "long").glob("ntp/seed-0/train/step-*"), default=Path("-"))
                print(
                    f"{(printed_at - began) / 60:.0f} min: {done} of 500 runs; long: {last.name}",
                    flush=True,
                )
        wrong = {name: stop(process) for name, process in commands.items()}
    records = [record for name, found in samples.items() for record in grown(name, found)]
    for record in records:
        print(
            f"{record['name']:28}{record['peer']:>10.1f} -> {record['ours']:>8.1f} "
            f"({'met' if record['met'] else 'NOT met'})"
        )
    for name, what in wrong.items():
        print(f"{name}: {what or 'ended well'}")
    if arguments.json:
        write_records(arguments.json, records, ("torch", "transformers", "accelerate"))
    if any(wrong.values()) or not all(record["met"] for record in records):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
