"""What executing costs: milliseconds a job on each engine, and the status of 10,000 runs.

    python scripts/bench/engines.py [--quick] [--json FILE] [--only jobs|status]

1,000 jobs of 10 ms of CPU time each, two at once, through the pool of this machine and through Ray,
next to what others take for the same work: multiprocessing.Pool with a process of its own for every
job, as ours has, so that a job that is killed takes no other along; ProcessPoolExecutor (and
joblib, if it is there) with processes that are used again; tasks of Ray without our layer; and
submitit's local executor, 20 jobs, as each starts an interpreter. Every method runs in an
interpreter of its own, repetitions alternate, medians count. The start, until the first four jobs
are over, is told apart: imports for the local pool; for Ray also its servers.
Overhead: (wall - jobs x 10 ms / 2) / jobs.

`ntpctp status` of an experiment of 100 arms and 100 seeds, 8,000 runs of it done, with the files
that it looks at, from a cold process, and with --json. Its counts have to be right.

Goals: the commands of status in 2 s. --quick: 100 jobs and 1,000 runs, once.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import yaml
from measuring import Record, write_records

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
from ntpctp.runner.engines import Failure, Job, Local, RayCluster

WORKERS, SECONDS, GOAL_SECONDS = 2, 0.01, 2.0
FIRST = 2 * WORKERS
STEPS = 1000


def work(*ignored: Any) -> None:
    """Keep a core busy."""
    begin = time.thread_time()
    while time.thread_time() - begin < SECONDS:
        pass


Over = Callable[[], None]
"""To be called whenever a job is over."""
Do = Callable[[int, Over], None]
"""Does so many jobs."""


class Watcher:
    """One that only counts."""

    def __init__(self, over: Over):
        self._over = over

    def on_event(self, event: Any) -> list[Job]:
        """Not needed."""
        return []

    def on_end(self, name: str, failure: Failure | None) -> list[Job]:
        """Count a job.

        Raises:
            RuntimeError: if it failed.
        """
        if failure is not None:
            raise RuntimeError(f"{name}: {failure}")
        self._over()
        return []


def _through(engine: Any) -> Do:
    def do(jobs: int, over: Over) -> None:
        engine.run([Job(f"job {k}", work, ()) for k in range(jobs)], Watcher(over))

    return do


def _of_results(begun: Callable[[int], Iterable[object]]) -> Do:
    """Return what does jobs, from a function that begins them and returns their results."""

    def do(jobs: int, over: Over) -> None:
        for _ in begun(jobs):
            over()

    return do


@contextmanager
def local() -> Iterator[Do]:
    """Our pool."""
    yield _through(Local(WORKERS, preload=[__name__]))


@contextmanager
def process_each() -> Iterator[Do]:
    """A pool of multiprocessing with a process for every job, forked from one with the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(WORKERS, maxtasksperchild=1) as pool:
        yield _of_results(lambda jobs: pool.imap_unordered(work, range(jobs)))


@contextmanager
def processes() -> Iterator[Do]:
    """A pool of concurrent.futures, with processes that are used again."""
    with ProcessPoolExecutor(WORKERS) as pool:
        yield _of_results(lambda jobs: pool.map(work, range(jobs)))


@contextmanager
def joblib() -> Iterator[Do]:
    """Joblib's own processes, used again."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=WORKERS, batch_size=1, return_as="generator") as parallel:
        yield _of_results(lambda jobs: parallel(delayed(work)(k) for k in range(jobs)))


@contextmanager
def ray() -> Iterator[Do]:
    """Our engine, which starts a Ray of its own."""
    yield _through(RayCluster())


@contextmanager
def ray_tasks() -> Iterator[Do]:
    """Ray without our layer."""
    import ray

    quiet = {"log_to_driver": False, "configure_logging": False}
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, **quiet)
    task = ray.remote(work)
    yield _of_results(lambda jobs: map(ray.get, [task.remote(k) for k in range(jobs)]))
    ray.shutdown()


@contextmanager
def submitit() -> Iterator[Do]:
    """The local executor of submitit, which starts all jobs at once."""
    import cloudpickle
    from submitit import LocalExecutor

    # The jobs would import this module otherwise, and with it torch.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with tempfile.TemporaryDirectory() as folder:
        executor = LocalExecutor(folder)
        yield _of_results(
            lambda jobs: (job.result() for job in executor.map_array(work, range(jobs)))
        )


METHODS: dict[str, Callable[[], AbstractContextManager[Do]]] = {
    method.__name__: method
    for method in (local, process_each, processes, joblib, ray, ray_tasks, submitit)
    if method is not joblib or importlib.util.find_spec("joblib")
}
PEERS = {
    "local": {
        "process_each": "multiprocessing.Pool, a process each",
        "processes": "ProcessPoolExecutor",
        "joblib": "joblib",
        "submitit": "submitit, local",
    },
    "ray": {"ray_tasks": "ray.remote"},
}


def tell(method: str, jobs: int) -> None:
    """Print the seconds until the first four jobs are over, and those that ``jobs`` more take.

    Of submitit, which has nothing to start but the jobs, none is the first.
    """
    first = 0 if method == "submitit" else FIRST
    ends = [time.perf_counter()]
    with METHODS[method]() as do:
        do(first + jobs, lambda: ends.append(time.perf_counter()))
    print(json.dumps({"start": ends[first] - ends[0], "jobs": ends[-1] - ends[first]}))


def measured(method: str, jobs: int) -> dict[str, float]:
    """Return what ``tell`` prints in an interpreter of its own, and overhead and wall in ms a job.

    The interpreter has no main module, as that of ``python -m ntpctp`` has none: a script would be
    executed again in every process of a pool.
    """
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.getenv("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", f"import engines; engines.tell({method!r}, {jobs})"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = json.loads(done.stdout.splitlines()[-1])
    wall = seconds["jobs"] / jobs
    return {
        "start": seconds["start"],
        "wall": 1e3 * wall,
        "overhead": 1e3 * (wall - SECONDS / WORKERS),
    }


def jobs_records(quick: bool) -> list[Record]:
    """Measure and print what a job costs; return the rows."""
    jobs = dict.fromkeys(METHODS, 100 if quick else 1000) | {"submitit": 20}
    repetitions = 1 if quick else 3
    runs = [{name: measured(name, jobs[name]) for name in METHODS} for _ in range(repetitions)]
    median = {
        name: {key: statistics.median(run[name][key] for run in runs) for key in runs[0][name]}
        for name in METHODS
    }
    print(f"{'jobs of 10 ms, two at once':40}{'jobs':>6}{'overhead':>10}{'wall':>8}{'start':>9}")
    for name, found in median.items():
        title = {**PEERS["local"], **PEERS["ray"], "local": "ours, local", "ray": "ours, Ray"}[name]
        print(
            f"{title:40}{jobs[name]:>6}{found['overhead']:>7.1f} ms{found['wall']:>5.0f} ms"
            f"{found['start']:>7.1f} s"
        )
    return [
        {
            "name": f"overhead of a job: {ours}",
            "ours": median[ours]["overhead"],
            "peer": median[peer]["overhead"],
            "peer_name": title,
            "unit": "ms",
            "ratio": median[peer]["overhead"] / median[ours]["overhead"],
            "goal": None,
            "met": None,
            "jobs": [jobs[ours], jobs[peer]],
            "wall": [median[ours]["wall"], median[peer]["wall"]],
            "start_seconds": [median[ours]["start"], median[peer]["start"]],
        }
        for ours, peers in PEERS.items()
        for peer, title in peers.items()
        if peer in METHODS
    ]


def asked(arms: int, seeds: int) -> Experiment:
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
    """Return what the run of this number is doing: of every hundred, eighty are done."""
    first = {0: "running", 2: "failed", 4: "stopped", 6: "waiting", 20: "done"}
    place = (number + number // 100) % 100  # of other arms with every seed
    return first[max(start for start in first if start <= place)]


def make(directory: Path, experiment: Experiment) -> None:
    """Write what ``status`` looks at, where runs would have put it."""
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
    there = steps if state == "done" else steps[: run.seed % len(steps)]
    for step in there:
        checkpoint = checkpoint_directory(stage, step)
        for measure in experiment.evaluation.at(step, STEPS):
            scores = scores_path(checkpoint, measure.name)
            scores.parent.mkdir(parents=True, exist_ok=True)
            scores.write_text("{}", "utf-8")
    stage.mkdir(parents=True, exist_ok=True)
    (path / ".lock").touch()
    reached = there[-1] if there else 0
    lines = [
        {"step": step, "loss": 3 / step, "learning_rate": 1e-3, "tokens": 800 * step,
         "supervised_tokens": 200 * step, "seconds": 0.02 * step, "tokens_per_second": 4e4}
        for step in range(50, reached + 1, 50)
    ]  # fmt: skip
    (stage / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    if state == "failed":
        heartbeat.write_failure(
            path, {"message": "RuntimeError: out of luck", "traceback": "Traceback: ..."}
        )
    _give_sign(path, state)


def _give_sign(path: Path, state: str) -> None:
    host = "another" if state == "running" else platform.node()
    worker = {"host": host, "process": 1, "started": time.time(), "alive": time.time()}
    write_json(path / heartbeat.WORKER, worker)


def status_seconds(directory: Path, experiment: Experiment, *options: str) -> tuple[float, float]:
    """Return the seconds and CPU seconds of the command.

    Raises:
        RuntimeError: if it counts wrongly.
    """
    runs = experiment.runs()
    for number, run in enumerate(runs):  # those at work are dead after two minutes
        if state_of(number) == "running":
            _give_sign(run_directory(directory, run), "running")
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
    """Measure and print what status costs; return the rows."""
    experiment = asked(*((20, 50) if quick else (100, 100)))
    records = []
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "many"
        make(directory, experiment)
        status_seconds(directory, experiment)  # the disk's cache is full
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


def main() -> None:
    """Measure, print, and write it down if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 jobs and 1,000 runs, once")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--only", choices=["jobs", "status"], help="one of the two")
    arguments = parser.parse_args()
    records: list[Record] = []
    if arguments.only != "status":
        records += jobs_records(arguments.quick)
    if arguments.only != "jobs":
        records += status_records(arguments.quick)
    if arguments.json:
        write_records(arguments.json, records, ("ray", "submitit", "torch"))


if __name__ == "__main__":
    main()
