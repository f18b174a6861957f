"""SIGKILL at random moments: does a run that is killed again and again end as an undisturbed one?

    python scripts/bench/kill.py --kills 20

Trains one arm of the quickstart through the command line, once undisturbed and once killed: half of
the kills at any moment after training has begun, half at the moment at which a checkpoint is being
written. After each kill every listed checkpoint is verified; at the end weights, optimizer state
and log are compared bit for bit, but for what a clock decides.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ntpctp import checkpoints
from ntpctp.storage import TEMPORARY, sha256_of

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
CLOCK = ("seconds", "tokens_per_second")


def main() -> None:
    """Kill, resume, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1500, help="of training")
    parser.add_argument("--every", type=int, default=25, help="steps between checkpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    overrides = [f"training.steps={arguments.steps}", f"evaluation.every={arguments.every}"]
    with tempfile.TemporaryDirectory() as temporary:
        killed, whole = Path(temporary) / "killed", Path(temporary) / "whole"
        moments, in_a_save = random.Random(arguments.seed), 0
        for number in range(arguments.kills):
            in_a_save += kill_once(killed, overrides, moments.uniform(0, 1.5), number % 2 == 1)
            listed = checkpoints.list_checkpoints(stage(killed))
            for path in listed:
                checkpoints.verify(path)
            print(f"kill {number + 1}: {len(listed)} checkpoints, all whole", flush=True)
        for output in (killed, whole):
            subprocess.run(command(output, overrides), check=True, capture_output=True)
        differ = differences(stage(killed), stage(whole))
    print(
        f"{arguments.kills} kills, {in_a_save} of them while a checkpoint was written; "
        + (f"DIFFERENT: {differ}" if differ else "weights, optimizer states and log are the same")
    )
    sys.exit(bool(differ))


def command(output: Path, overrides: list[str]) -> list[str]:
    """Return the command that trains, or carries on."""
    run = ["train", str(RECIPE), *overrides, "--arm", "ntp", "--seed", "0"]
    return [sys.executable, "-m", "ntpctp", *run, "--output", str(output)]


def stage(output: Path) -> Path:
    """Return where the run's checkpoints and log are."""
    return output / "ntp" / "seed-0" / "train"


def kill_once(output: Path, overrides: list[str], seconds: float, in_a_save: bool) -> bool:
    """Start the run, kill it, and return whether a checkpoint was then being written."""
    before = len(checkpoints.list_checkpoints(stage(output)))
    process = subprocess.Popen(
        command(output, overrides), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # Training goes on once a checkpoint has been added.
    while len(checkpoints.list_checkpoints(stage(output))) == before:
        running(process)
        time.sleep(0.01)
    time.sleep(seconds)
    while in_a_save and not list(stage(output).glob(f"{TEMPORARY}*")):
        running(process)
    running(process)
    process.kill()
    process.wait()
    return bool(list(stage(output).glob(f"{TEMPORARY}*")))


def running(process: subprocess.Popen[bytes]) -> None:
    """Stop this benchmark if the run has ended before it could be killed."""
    if process.poll() is not None:
        sys.exit(f"the run ended by itself ({process.returncode}); give it more --steps")


def differences(first: Path, second: Path) -> list[str]:
    """Return the files that differ in content, and the log if its lines do."""
    found = []
    names = [path.name for path in checkpoints.list_checkpoints(second)]
    if names != [path.name for path in checkpoints.list_checkpoints(first)]:
        found.append("the list of checkpoints")
    for name in names:
        for file in ("model.safetensors", "optimizer.safetensors"):
            if sha256_of(first / name / file) != sha256_of(second / name / file):
                found.append(f"{name}/{file}")
    if told(first) != told(second):
        found.append("log.jsonl")
    return found


def told(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of a log without what a clock decides."""
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


if __name__ == "__main__":
    main()
