"""Jobs as tasks of Ray: on a cluster, or on a Ray that is started on this machine for them."""

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
from ntpctp.runner.engines.base import Failure, Job, Note, Watcher, attempt

_POLL_SECONDS = 0.2
_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 5.0
"""Between two looks at what machines the cluster has."""
_RETRIES = 5
"""How often Ray begins a job anew whose process or machine went away. It resumes from what was
saved last, and machines of a spot market go away often."""


@dataclass(frozen=True)
class _Begin:
    """The first that a job sends: on which machine it is."""

    name: str
    node: str


@dataclass(frozen=True)
class _End:
    """The last that a job sends."""

    name: str


class _Mailbox:
    """What jobs tell, until the driver asks; an actor beside the driver."""

    def __init__(self) -> None:
        self._messages: list[Any] = []

    def put(self, event: Any) -> None:
        self._messages.append(event)

    def drain(self) -> list[Any]:
        messages, self._messages = self._messages, []
        return messages


def _task(job: Job, mailbox: Any) -> Failure | None:
    """Do a job in a worker of Ray, which is used again for others."""
    import ray
    import torch

    torch.set_num_threads(job.resources.cpus or 1)
    # Ray shows a job that asks for no GPU all of them.
    os.environ["ACCELERATE_USE_CPU"] = str(not job.resources.gpus).lower()
    mailbox.put.remote(_Begin(job.name, ray.get_runtime_context().get_node_id()))
    failure = attempt(job, mailbox.put.remote)
    ray.get(mailbox.put.remote(_End(job.name)))  # what was sent has arrived when the job is over
    return failure


@dataclass
class RayCluster:
    """A Ray cluster.

    Attributes:
        address: what ``ray.init`` takes: ``ray://HOST:PORT``, ``HOST:PORT``, ``auto``; None: Ray is
            started on this machine, and stopped afterwards.
    """

    address: str | None = None
    name: str = field(default="ray", init=False)
    measures_apart: bool = field(default=True, init=False)

    def run(self, jobs: Iterable[Job], watcher: Watcher) -> dict[str, Failure]:
        """Do all jobs, see ``Engine``.

        A job whose process or machine went away is begun anew by Ray, elsewhere if need be.

        Raises:
            InputError: if Ray is not installed or does not answer, or if no machine of the cluster
                has what a job asks for.
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
        quiet = {"log_to_driver": False, "configure_logging": False}
        on_termination = signal.getsignal(signal.SIGTERM)  # Ray puts its own in its place
        try:
            if self.address is None:
                ray.init(address="local", num_cpus=cores(), include_dashboard=False, **quiet)
            else:
                _check_answers(self.address)
                ray.init(address=self.address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"--on ray: cannot reach Ray at {self.address or 'this machine'}: "
                f"{str(error).strip()}\nstart a cluster with `ray start --head`, or leave the "
                "address out to start one here"
            ) from error
        if threading.current_thread() is threading.main_thread() and on_termination is not None:
            signal.signal(signal.SIGTERM, on_termination)


def _check_answers(address: str) -> None:
    """Try the port of an address once: Ray itself would try for minutes.

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
        asked = job.resources
        options = {"num_cpus": asked.cpus or asked.num_processes, "num_gpus": asked.gpus}
        if asked.memory_gib:
            options["memory"] = int(asked.memory_gib * 2**30)
        named = task.options(name=job.name, max_retries=_RETRIES, **options)
        pending[named.remote(job, mailbox)] = job
        times[job.name] += 1

    def submit_lost() -> None:
        """Begin the jobs of lost machines anew.

        Ray does so too, at once where the connections were closed; where a machine vanished (a
        spot machine, a cut cable) only minutes after it has given that machine up.
        """
        for reference, job in list(pending.items()):
            if nodes.get(job.name) in machines.lost() and times[job.name] <= _RETRIES:
                ray.cancel(reference, force=True)  # Ray is not to begin it as well
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
            ray.wait(list(pending), timeout=_POLL_SECONDS)  # for the first: others can begin then
            ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0)
            # Asked for after it is known what is over: a job's events come before its end.
            more: list[Job] = []
            for event in ray.get(mailbox.drain.remote()):
                if isinstance(event, _Begin):
                    nodes[event.name] = event.node
                elif not isinstance(event, _End):
                    more += watcher.on_event(event)
            for reference in ready:
                job = pending.pop(reference)
                failure = _outcome(ray, reference)
                if failure is not None:
                    failures[job.name] = failure
                more += watcher.on_end(job.name, failure)
            # What has become possible comes first, so that runs that were begun are finished.
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
        # Of its long text the first line says what happened.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        message = f"lost, begun {_RETRIES + 1} times: {reason[0]}"
        return Failure(message, str(error), of_machine=True)
    return outcome


class _Machines:
    """What the cluster has; it may grow and shrink."""

    def __init__(self, ray: Any):
        self._ray = ray
        self._known: dict[tuple[int, int, float], str] = {}
        self._total: dict[str, float] = {}
        self._dead: set[str] = set()
        self._lost: set[str] = set()
        self._asked = -math.inf

    def _look(self) -> None:
        if time.monotonic() - self._asked > _LOOK_SECONDS:
            self._total = self._ray.cluster_resources()
            self._lost = self._dead
            self._dead = {node["NodeID"] for node in self._ray.nodes() if not node["Alive"]}
            self._asked = time.monotonic()

    def lost(self) -> set[str]:
        """Return the ids of machines that Ray had given up at the look before the last."""
        self._look()
        return self._lost

    def room(self, job: Job) -> int:
        """Return how many jobs like this Ray may have: those that fit, and as many that wait.

        The others wait here, where those that finish a run can overtake them.
        """
        self._look()
        asked = job.resources
        fit = self._total.get("CPU", 0) // (asked.cpus or asked.num_processes)
        if asked.gpus:
            fit = min(fit, self._total.get("GPU", 0) // asked.gpus)
        return 2 * max(1, int(fit))

    def misfit(self, job: Job) -> str:
        """Return why a job has to wait for another machine, the first time that it is asked."""
        asked = job.resources
        cpus, gpus = asked.cpus or asked.num_processes, asked.gpus
        key = cpus, gpus, asked.memory_gib or 0.0
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
            "waiting for one that joins (resources: in the experiment file says what is asked for)"
        )
        return self._known[key]
