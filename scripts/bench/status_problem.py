"""The time of ``ntpctp status`` for thousands of runs in all states, without training any."""

import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml
from measuring import Record

from ntpctp._core.files import write_json
from ntpctp._core.layout import (
    EXPERIMENT,
    RunId,
    checkpoint_directory,
    run_directory,
    scores_path,
    stage_directory,
)
from ntpctp.config import Experiment, experiment_of
from ntpctp.runner import heartbeat

GOAL_SECONDS = 2.0
STEPS = 1000


def many_runs(arms: int, seeds: int) -> Experiment:
    """Return an experiment of many runs, with five checkpoints each."""
    return experiment_of(
        {
            "name": "many",
            "task": {"name": "addition", "digits": 3},
            "model": {"family": "gpt2", "layers": 2, "width": 64, "heads": 4},
            "training": {"steps": STEPS, "batch_size": 64},
            "arms": {
                f"wrong-{arm}": {"objective": {"name": "noisy", "rate": arm / (2 * arms)}}
                for arm in range(arms)
            },
            "seeds": seeds,
            "evaluation": {"every": STEPS // 4, "measures": ["accuracy", "robustness", "flatness"]},
        },
        "bench",
    )


def state_of(number: int) -> str:
    """Return the state of the run with this number: of every hundred, eighty are done."""
    first = {0: "running", 2: "failed", 4: "stopped", 6: "waiting", 20: "done"}
    place = (number + number // 100) % 100  # different arms for every seed
    return first[max(start for start in first if start <= place)]


def make(directory: Path, experiment: Experiment) -> None:
    """Write the files that ``status`` reads, where runs would write them."""
    content = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
    directory.mkdir()
    (directory / EXPERIMENT).write_text(f"# As resolved: with all defaults.\n{content}", "utf-8")
    for number, run in enumerate(experiment.runs()):
        state = state_of(number)
        if state != "waiting":
            _make_run(run_directory(directory, run), state, experiment, directory, run)


def _make_run(path: Path, state: str, experiment: Experiment, directory: Path, run: RunId) -> None:
    stage = stage_directory(directory, run)
    steps = experiment.evaluation.checkpoint_steps(STEPS)
    finished = steps if state == "done" else steps[: run.seed % len(steps)]
    for step in finished:
        checkpoint = checkpoint_directory(stage, step)
        for measure in experiment.evaluation.at(step, STEPS):
            scores = scores_path(checkpoint, measure.name)
            scores.parent.mkdir(parents=True, exist_ok=True)
            scores.write_text("{}", "utf-8")
    stage.mkdir(parents=True, exist_ok=True)
    (path / ".lock").touch()
    reached = finished[-1] if finished else 0
    lines = [
        {"step": step, "loss": 3 / step, "learning_rate": 1e-3, "tokens": 800 * step,
         "supervised_tokens": 200 * step, "seconds": 0.02 * step, "tokens_per_second": 4e4}
        for step in range(50, reached + 1, 50)
    ]  # fmt: skip
    (stage / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    if state == "failed":
        heartbeat.write_failure(
            path, {"message": "RuntimeError: simulated failure", "traceback": "Traceback: ..."}
        )
    _write_heartbeat(path, state)


def _write_heartbeat(path: Path, state: str) -> None:
    host = "another" if state == "running" else platform.node()
    worker = {"host": host, "process": 1, "started": time.time(), "alive": time.time()}
    write_json(path / heartbeat.WORKER, worker)


def status_seconds(directory: Path, experiment: Experiment, *options: str) -> tuple[float, float]:
    """Return the seconds and CPU seconds of the command.

    Raises:
        RuntimeError: if its counts are wrong.
    """
    runs = experiment.runs()
    for number, run in enumerate(runs):  # a heartbeat expires after two minutes
        if state_of(number) == "running":
            _write_heartbeat(run_directory(directory, run), "running")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "ntpctp", "status", str(directory), *options]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    counts = Counter(state_of(number) for number in range(len(runs)))
    if options:
        right = json.loads(printed)[0]["counts"] == counts
    else:
        right = all(f"{count} {state}" in printed for state, count in counts.items())
    if not right:
        raise RuntimeError(f"expected {counts}, found {printed[:300]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu


def status_records(quick: bool) -> list[Record]:
    """Measure and print the time of ``ntpctp status``; return the rows."""
    experiment = many_runs(*((20, 50) if quick else (100, 100)))
    records = []
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "many"
        make(directory, experiment)
        status_seconds(directory, experiment)  # fills the disk cache
        for options in ((), ("--json",)):
            runs = [
                status_seconds(directory, experiment, *options) for _ in range(1 if quick else 7)
            ]
            seconds, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
            command, met = " ".join(("status", *options)), seconds <= GOAL_SECONDS
            name = f"{command} of {len(experiment.runs()):,} runs"
            records.append(
                {
                    "name": name, "ours": seconds, "peer": None, "peer_name": None, "unit": "s",
                    "ratio": None, "goal": GOAL_SECONDS, "met": met, "cpu_seconds": cpu,
                }
            )  # fmt: skip
            print(
                f"{name}: {seconds:.2f} s, {cpu:.2f} CPU s (goal {GOAL_SECONDS:g} s: "
                f"{'met' if met else 'NOT met'})"
            )
    return records
