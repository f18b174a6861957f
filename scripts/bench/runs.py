"""Whole runs: the speed-up from running in parallel, and the cost of checkpoints.

    python scripts/bench/runs.py [--quick]

The six runs of the quickstart (two arms, three seeds), trained and measured, in parallel on all
cores and one after the other on one core; seconds of the whole command, start-up included. Then one
run in this process: the share of its training time spent on writing checkpoints, with the
quickstart's schedule. --quick: a tenth of the steps.

Goals on two cores: parallel runs take at most 55 % of the time, checkpoints at most 2 %.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from ntpctp._core.layout import RunId
from ntpctp._core.runtime import quiet_libraries
from ntpctp.config import load_experiment
from ntpctp.models import checkpoint_state
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import accelerator_for, train_run

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    quick = parser.parse_args().quick
    quiet_libraries()
    torch.set_num_threads(1)
    experiment = load_experiment(RECIPE)
    steps = experiment.arms["ntp"].training.steps // (10 if quick else 1)
    overrides = [f"training.steps={steps}", "training.warmup_steps=0", "seeds=3"]
    cores = sorted(os.sched_getaffinity(0))
    alone = seconds_of(overrides, cores[:1])
    together = seconds_of(overrides, cores)
    print(f"six runs of {steps} steps, one after the other on one core: {alone:.0f} s")
    print(f"side by side on {len(cores)} cores: {together:.0f} s, {together / alone:.0%}")
    whole, saving, number = checkpoint_cost(overrides)
    print(f"training one run: {whole:.1f} s, of which {number} checkpoints {saving / whole:.1%}")


def seconds_of(overrides: list[str], cores: list[int]) -> float:
    """Return the seconds that the command takes on the given cores."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "ntpctp", "run", str(RECIPE), *overrides]
        begin = time.perf_counter()
        subprocess.run(
            [*command, "--workers", str(len(cores)), "--output", f"{output}/runs"],
            check=True,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        return time.perf_counter() - begin


def checkpoint_cost(overrides: list[str]) -> tuple[float, float, int]:
    """Return seconds of training, seconds spent on writing checkpoints, and their number."""
    experiment = load_experiment(RECIPE, overrides)
    run, data = RunId("ntp", 0), prepare(experiment)
    spent: list[float] = []
    save = checkpoint_state.save

    def timed(*arguments: Any) -> None:
        begin = time.perf_counter()
        save(*arguments)
        spent.append(time.perf_counter() - begin)

    checkpoint_state.save = timed
    with tempfile.TemporaryDirectory() as output:
        directory = Path(output)
        begin = time.perf_counter()
        train_run(experiment, data, run, directory, accelerator_for(experiment, run, directory))
        whole = time.perf_counter() - begin
    checkpoint_state.save = save
    return whole, sum(spent), len(spent)


if __name__ == "__main__":
    main()
