"""Jobs as Ray tasks: on a cluster, or on a Ray started on this machine."""

import math
import os
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ntpctp._core.cpu import cores
from ntpctp._core.errors import InputError
from ntpctp._core.runtime import START_DIRECTORY, isolated_imports
from ntpctp.runner.engines.base import Failure, Job, Note, Watcher, attempt

_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 5.0
"""Between two queries of the cluster's machines."""
_RETRIES = 5
"""How often Ray retries a job whose process or machine was lost. The job resumes from its last
checkpoint, and spot machines are lost often."""


@dataclass(frozen=True)
class _Started:
    """First message of a job: the machine it runs on."""

    name: str
    node: str


@dataclass(frozen=True)
class _Ended:
    """Last message of a job."""

    name: str


class _Mailbox:
    """Messages of jobs, until the driver fetches them; an actor on the driver's machine."""

    def __init__(self) -> None:
        self._messages: list[Any] = []

    def put(self, event: Any) -> None:
        self._messages.append(event)

    def drain(self) -> list[Any]:
        messages, self._messages = self._messages, []
        return messages


def _task(job: Job, mailbox: Any, directory: str) -> Failure | None:
    """Execute a job in a Ray worker, which Ray reuses for other jobs.

    Args:
        job: what to execute.
        mailbox: receives its events.
        directory: the driver's current directory.
    """
    import ray
    import torch

    torch.set_num_threads(job.resources.cpus or 1)
    os.environ[START_DIRECTORY] = directory
    # A Ray job that requests no GPU sees all of them.
    os.environ["ACCELERATE_USE_CPU"] = str(not job.resources.gpus).lower()
    mailbox.put.remote(_Started(job.name, ray.get_runtime_context().get_node_id()))
    failure = attempt(job, mailbox.put.remote)
    ray.get(mailbox.put.remote(_Ended(job.name)))  # all events arrive before the job ends
    return failure


@dataclass
class RayCluster:
    """A Ray cluster.

    Attributes:
        address: for ``ray.init``: ``ray://HOST:PORT``, ``HOST:PORT``, ``auto``; None: Ray is
            started on this machine, and stopped afterwards.
    """

    address: str | None = None
    name: str = field(default="ray", init=False)
    evaluates_separately: bool = field(default=True, init=False)

    def run(self, jobs: Iterable[Job], watcher: Watcher) -> dict[str, Failure]:
        """Execute all jobs, see ``Engine``.

        A job whose process or machine is lost is retried, on another machine if needed.

        Raises:
            InputError: if Ray is not installed or does not answer.
        """
        ray = _ray()
        started = not ray.is_initialized()
        if started:
            self._connect(ray)
        try:
            return _run(ray, list(jobs), watcher)
        finally:
            if started:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        options = {
            "log_to_driver": False,
            "configure_logging": False,
            # Jobs of Ray's client alone do not get the driver's current directory on their module
            # path, where they would import any `queue.py` or `ntpctp/` that lies there.
            "job_config": ray.job_config.JobConfig(_client_job=True),
        }
        on_termination = signal.getsignal(signal.SIGTERM)  # Ray replaces the handler
        try:
            if self.address is None:
                with isolated_imports():
                    ray.init(address="local", num_cpus=cores(), include_dashboard=False, **options)
            else:
                _check_answers(self.address)
                ray.init(address=self.address, **options)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"--on ray: cannot reach Ray at {self.address or 'this machine'}: "
                f"{str(error).strip()}\nStart a cluster with `ray start --head`, or omit the "
                "address to start Ray on this machine"
            ) from error
        if threading.current_thread() is threading.main_thread() and on_termination is not None:
            signal.signal(signal.SIGTERM, on_termination)


def _check_answers(address: str) -> None:
    """Connect to the port of an address once: Ray itself would retry for minutes.

    Raises:
        OSError: if nothing answers.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError("--on ray: Ray is not installed: pip install ntpctp[ray]") from error
    return ray


def _run(ray: Any, jobs: list[Job], watcher: Watcher) -> dict[str, Failure]:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    mailbox = ray.remote(_Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
    task = ray.remote(_task)
    pending: dict[Any, Job] = {}
    waiting = deque(jobs)
    failures: dict[str, Failure] = {}
    machines = _Machines(ray)
    nodes: dict[str, str] = {}
    times = Counter[str]()

    def submit(job: Job) -> None:
        resources = job.resources
        cpus = resources.cpus or resources.num_processes
        options = {"num_cpus": cpus, "num_gpus": resources.gpus}
        if resources.memory_gib:
            options["memory"] = int(resources.memory_gib * 2**30)
        named = task.options(name=job.name, max_retries=_RETRIES, **options)
        pending[named.remote(job, mailbox, os.getcwd())] = job
        times[job.name] += 1

    def submit_lost() -> None:
        """Restart the jobs of lost machines.

        Ray does so, too: at once if the connections were closed, but only minutes after it has
        given up a machine that vanished (a spot machine, a cut cable).
        """
        for reference, job in list(pending.items()):
            if nodes.get(job.name) in machines.lost() and times[job.name] <= _RETRIES:
                ray.cancel(reference, force=True)  # so that Ray does not retry it, too
                del pending[reference], nodes[job.name]
                submit(job)

    try:
        while waiting or pending:
            submit_lost()
            while waiting and len(pending) < machines.room(waiting[0]):
                job = waiting.popleft()
                submit(job)
                if misfit := machines.misfit(job):
                    waiting.extendleft(watcher.on_event(Note(job.name, misfit)))
            ray.wait(list(pending), timeout=_POLL_SECONDS)  # until the first ends and makes room
            ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
            # Fetched after ``ready`` is known, so that all events of a job precede its end.
            more: list[Job] = []
            for event in ray.get(mailbox.drain.remote()):
                if isinstance(event, _Started):
                    nodes[event.name] = event.node
                elif not isinstance(event, _Ended):
                    more += watcher.on_event(event)
            for reference in ready:
                job = pending.pop(reference)
                failure = _outcome(ray, reference)
                if failure is not None:
                    failures[job.name] = failure
                more += watcher.on_end(job.name, failure)
            # New jobs come first, so that started runs are finished before others start.
            waiting.extendleft(reversed(more))
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        ray.kill(mailbox)
    return failures


def _outcome(ray: Any, reference: Any) -> Failure | None:
    try:
        outcome: Failure | None = ray.get(reference)
    except ray.exceptions.RayError as error:
        # The first line of its long text says what happened.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        message = f"lost after {_RETRIES + 1} attempts: {reason[0]}"
        return Failure(message, str(error), of_machine=True)
    return outcome


class _Machines:
    """Machines of the cluster, which may grow and shrink."""

    def __init__(self, ray: Any):
        self._ray = ray
        self._known: dict[tuple[int, int, float], str] = {}
        self._total: dict[str, float] = {}
        self._dead: set[str] = set()
        self._lost: set[str] = set()
        self._queried = -math.inf

    def _look(self) -> None:
        if time.monotonic() - self._queried > _LOOK_SECONDS:
            self._total = self._ray.cluster_resources()
            self._lost = self._dead
            self._dead = {node["NodeID"] for node in self._ray.nodes() if not node["Alive"]}
            self._queried = time.monotonic()

    def lost(self) -> set[str]:
        """Return the ids of machines that Ray had given up by the query before the last."""
        self._look()
        return self._lost

    def room(self, job: Job) -> int:
        """Return how many jobs like this to submit: those that fit, and as many that wait.

        Others wait in the driver, where jobs that finish a run can overtake them.
        """
        self._look()
        resources = job.resources
        fit = self._total.get("CPU", 0) // (resources.cpus or resources.num_processes)
        if resources.gpus:
            fit = min(fit, self._total.get("GPU", 0) // resources.gpus)
        return 2 * max(1, int(fit))

    def misfit(self, job: Job) -> str:
        """Return why no machine fits a job; "" if one does, or if the caller knows already."""
        resources = job.resources
        cpus, gpus = resources.cpus or resources.num_processes, resources.gpus
        key = cpus, gpus, resources.memory_gib or 0.0
        if key in self._known:
            return ""
        fits = any(
            node["Resources"].get("CPU", 0) >= cpus
            and node["Resources"].get("GPU", 0) >= gpus
            and node["Resources"].get("memory", 0) >= key[2] * 2**30
            for node in self._ray.nodes()
            if node["Alive"]
        )
        self._known[key] = (
            ""
            if fits
            else f"no machine of the cluster has {cpus} CPUs, {gpus} GPUs and {key[2]} GiB; "
            "waiting for one to join. The field `resources` of the experiment file requests them"
        )
        return self._known[key]
