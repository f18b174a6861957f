"""Overhead of engines in milliseconds per job, and the time of `ntpctp status` of 10,000 runs.

    python scripts/bench/engines.py [--quick] [--json FILE] [--only jobs|status]

1,000 jobs of 10 ms of CPU time each, two at once, with the local pool and with Ray. Peers for the
same work: multiprocessing.Pool with one process per job, as in ours, so that a killed job affects
no other; ProcessPoolExecutor (and joblib, if installed) with reused processes; tasks of Ray without
our layer; and submitit's local executor, 20 jobs, because each starts an interpreter. Every method
runs in a separate interpreter; repetitions alternate; medians are reported. The start-up, until the
first four jobs end, is reported separately: imports for the local pool; for Ray also its servers.
Overhead: (wall - jobs x 10 ms / 2) / jobs.

`ntpctp status` and `ntpctp status --json` of an experiment of 100 arms and 100 seeds, 8,000 of its
runs done, from a cold process. The counts must be right.

Goals: each status command within 2 s. --quick: 100 jobs and 1,000 runs, once.
"""

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from measuring import Record, write_records
from status_problem import status_records

from ntpctp.runner.engines import Failure, Job, Local, RayCluster

WORKERS, SECONDS = 2, 0.01
FIRST = 2 * WORKERS


def work(*ignored: Any) -> None:
    """Keep a core busy."""
    begin = time.thread_time()
    while time.thread_time() - begin < SECONDS:
        pass


OnEnd = Callable[[], None]
"""Called whenever a job ends."""
RunJobs = Callable[[int, OnEnd], None]
"""Runs the given number of jobs."""


class Watcher:
    """Counts ended jobs."""

    def __init__(self, on_end: OnEnd):
        self._on_end = on_end

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
        self._on_end()
        return []


def _through(engine: Any) -> RunJobs:
    def run(jobs: int, on_end: OnEnd) -> None:
        engine.run([Job(f"job {k}", work, ()) for k in range(jobs)], Watcher(on_end))

    return run


def _of_results(start: Callable[[int], Iterable[object]]) -> RunJobs:
    """Return a function that runs jobs, given one that starts them and yields their results."""

    def run(jobs: int, on_end: OnEnd) -> None:
        for _ in start(jobs):
            on_end()

    return run


@contextmanager
def local() -> Iterator[RunJobs]:
    """Our pool."""
    yield _through(Local(WORKERS, preload=[__name__]))


@contextmanager
def process_each() -> Iterator[RunJobs]:
    """A pool of multiprocessing with one process per job, forked from a server with the imports."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(WORKERS, maxtasksperchild=1) as pool:
        yield _of_results(lambda jobs: pool.imap_unordered(work, range(jobs)))


@contextmanager
def processes() -> Iterator[RunJobs]:
    """A pool of concurrent.futures with reused processes."""
    with ProcessPoolExecutor(WORKERS) as pool:
        yield _of_results(lambda jobs: pool.map(work, range(jobs)))


@contextmanager
def joblib() -> Iterator[RunJobs]:
    """Joblib with reused processes."""
    from joblib import Parallel, delayed

    with Parallel(n_jobs=WORKERS, batch_size=1, return_as="generator") as parallel:
        yield _of_results(lambda jobs: parallel(delayed(work)(k) for k in range(jobs)))


@contextmanager
def ray() -> Iterator[RunJobs]:
    """Our engine, which starts a local Ray cluster."""
    yield _through(RayCluster())


@contextmanager
def ray_tasks() -> Iterator[RunJobs]:
    """Ray without our layer."""
    import ray

    quiet = {"log_to_driver": False, "configure_logging": False}
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, **quiet)
    task = ray.remote(work)
    yield _of_results(lambda jobs: map(ray.get, [task.remote(k) for k in range(jobs)]))
    ray.shutdown()


@contextmanager
def submitit() -> Iterator[RunJobs]:
    """The local executor of submitit, which starts all jobs at once."""
    import cloudpickle
    from submitit import LocalExecutor

    # Otherwise the jobs would import this module, and with it torch.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with tempfile.TemporaryDirectory() as folder:
        executor = LocalExecutor(folder)
        yield _of_results(
            lambda jobs: (job.result() for job in executor.map_array(work, range(jobs)))
        )


METHODS: dict[str, Callable[[], AbstractContextManager[RunJobs]]] = {
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


def print_seconds(method: str, jobs: int) -> None:
    """Print the seconds until the first four jobs are on_end, and those that ``jobs`` more take.

    Of submitit, which has nothing to start but the jobs, none is the first.
    """
    first = 0 if method == "submitit" else FIRST
    ends = [time.perf_counter()]
    with METHODS[method]() as run:
        run(first + jobs, lambda: ends.append(time.perf_counter()))
    print(json.dumps({"start": ends[first] - ends[0], "jobs": ends[-1] - ends[first]}))


def measured(method: str, jobs: int) -> dict[str, float]:
    """Run ``print_seconds`` in a new interpreter; return start-up, wall and overhead per job.

    The interpreter gets no main script, because every process of a pool would execute it again.
    """
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.getenv("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", f"import engines; engines.print_seconds({method!r}, {jobs})"],
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
    """Measure and print the overhead of a job; return the rows."""
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


def main() -> None:
    """Measure, print, and write the rows if requested."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 jobs and 1,000 runs, once")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--only", choices=["jobs", "status"], help="measure only one of the two")
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
