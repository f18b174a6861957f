"""A Slurm of one machine, as far as submitit and we ask it: sbatch, srun, sacct, squeue, scontrol.

Installed as executables of these names by ``install``; state lies in the directory $FAKE_SLURM:

    count                 of submissions
    <job>.state           PENDING, RUNNING, COMPLETED, FAILED, CANCELLED
    <job>.pid             of what srun became
    <job>.requeued        how often scontrol has queued it again
    <job>.sh              the batch file
"""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "squeue", "scontrol", "scancel")


def install(directory: Path) -> None:
    for name in COMMANDS:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        path.chmod(0o755)


def state_of(job: str) -> Path:
    return Path(os.environ["FAKE_SLURM"]) / f"{job}.state"


def sbatch(script: str) -> None:
    text = Path(script).read_text()
    count = Path(os.environ["FAKE_SLURM"]) / "count"
    number = int(count.read_text()) + 1 if count.exists() else 100
    count.write_text(str(number))
    array = re.search(r"#SBATCH --array=0-(\d+)%(\d+)", text)
    names = [f"{number}_{k}" for k in range(int(array[1]) + 1)] if array else [str(number)]
    for name in names:
        state_of(name).write_text("PENDING")
        state_of(name).with_suffix(".sh").write_text(text)
    at_once = array[2] if array else "1"
    command = [sys.executable, __file__, "work", at_once, *names]
    subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    print(f"Submitted batch job {number}")


def work(at_once: str, *names: str) -> None:
    """Stands for the daemon: the jobs of an array, some at once, again if they were requeued."""
    waiting, running = list(names), {}
    while waiting or running:
        while waiting and len(running) < int(at_once):
            name = waiting.pop(0)
            if state_of(name).read_text() == "CANCELLED":
                continue
            running[name] = subprocess.Popen(
                ["bash", state_of(name).with_suffix(".sh")], env=environment(name)
            )
            state_of(name).write_text("RUNNING")
        for name, process in list(running.items()):
            try:
                code = process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            del running[name]
            state = state_of(name).read_text()
            if state == "REQUEUED":
                waiting.append(name)
            elif state != "CANCELLED":
                state_of(name).write_text("FAILED" if code else "COMPLETED")


def environment(name: str) -> dict[str, str]:
    array, _, task = name.partition("_")
    own = {"JOB_ID": str(int(array) * 10 + int(task or 0)), "NTASKS": "1", "JOB_NUM_NODES": "1"}
    own |= {"NODEID": "0", "PROCID": "0", "LOCALID": "0", "JOB_NODELIST": socket.gethostname()}
    if task:
        own |= {"ARRAY_JOB_ID": array, "ARRAY_TASK_ID": task}
    else:
        own["JOB_ID"] = array
    return {**os.environ, **{f"SLURM_{key}": value for key, value in own.items()}}


def srun(*arguments: str) -> None:
    options, rest = {}, list(arguments)
    while rest[0].startswith("--"):
        option = rest.pop(0)
        if option in ("--output", "--error"):
            options[option] = rest.pop(0)
    array, task = (os.environ.get(f"SLURM_ARRAY_{x}") for x in ("JOB_ID", "TASK_ID"))
    name = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    for option, number in (("--output", 1), ("--error", 2)):
        path = options[option].replace("%A", array or "").replace("%a", task or "")
        path = path.replace("%j", name).replace("%t", "0")
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    state_of(name).with_suffix(".pid").write_text(str(os.getpid()))
    os.execvp(rest[0], rest)


def sacct(*arguments: str) -> None:
    print("JobID|State|NodeList")
    for path in sorted(Path(os.environ["FAKE_SLURM"]).glob("*.state")):
        state = path.read_text().replace("REQUEUED", "PENDING")
        print(f"{path.stem}|{state}|{socket.gethostname()}")


def squeue(*arguments: str) -> None:
    (job,) = (a.removeprefix("--jobs=") for a in arguments if a.startswith("--jobs="))
    state = state_of(job).read_text()
    if state in ("PENDING", "RUNNING"):
        print(state)


def scontrol(verb: str, job: str) -> None:
    assert verb == "requeue"
    counter = state_of(job).with_suffix(".requeued")
    counter.write_text(str(int(counter.read_text()) + 1 if counter.exists() else 1))
    state_of(job).write_text("REQUEUED")


def scancel(job: str) -> None:
    running = state_of(job).read_text() == "RUNNING"
    state_of(job).write_text("CANCELLED")
    if running:
        os.kill(int(state_of(job).with_suffix(".pid").read_text()), signal.SIGTERM)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
