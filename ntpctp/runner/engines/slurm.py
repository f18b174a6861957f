"""Jobs as a Slurm job array, through submitit; or through its local executor, for a trial.

The folder of submissions is in the experiment's directory, on a file system that all nodes share:
batch files, pickled jobs, their output, their events (``events-<id>.jsonl``), and
``submitted.json``: the queued jobs, so that a restarted driver finds those that do the same work
(by a digest of their arguments).

Pickles are written by the driver and read by the job, never the other way round: the outcome of a
job comes back as JSON (``events-<id>.outcome.json``), as a driver may be pointed at a directory
whose files come from a stranger.
"""

import hashlib
import pickle
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ntpctp._core import signals
from ntpctp._core.errors import InputError
from ntpctp._core.files import write_json
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp._core.runtime import isolated_imports
from ntpctp.config.resources import Resources
from ntpctp.runner.engines.base import Failure, Job, Watcher, attempt
from ntpctp.runner.engines.mailbox import Mailbox, read_outcome

_POLL_SECONDS = 2.0
_LOOK_SECONDS = 0.2
_SETTLE_SECONDS = 15.0
"""Maximum delay until a file written by a node is visible on the driver's machine."""
_SUBMITTED = "submitted.json"
_JOB = re.compile(r"[0-9]+(_[0-9]+)?")
_EVENTS = re.compile(r"events-[0-9a-f]{32}\.jsonl")


@dataclass
class Slurm:
    """A Slurm cluster, submitted to from one of its nodes.

    Attributes:
        folder: of the submissions; on a file system that all nodes share.
        cluster: ``local``: processes of this machine that imitate jobs.
        poll_seconds: between two queries of the jobs.
    """

    folder: Path
    cluster: Literal["slurm", "local"] = "slurm"
    poll_seconds: float = _POLL_SECONDS
    name: str = field(default="slurm", init=False)
    evaluates_separately: bool = field(default=False, init=False)

    def run(self, jobs: Iterable[Job], watcher: Watcher) -> dict[str, Failure]:
        """Execute all jobs, see ``Engine``: one array for all jobs with the same resources.

        If this process ends, jobs stay queued, and the next call watches them again.

        Raises:
            InputError: if submitit is not installed, Slurm is not found, or sbatch refuses.
        """
        watched: list[_Watched] = []
        failures: dict[str, Failure] = {}
        self._submit(list(jobs), watched)
        try:
            while watched:
                time.sleep(self.poll_seconds)
                more: list[Job] = []
                for each in list(watched):
                    over = each.handle.done()  # before its events are read, so that none is missed
                    for event in each.mailbox.receive():
                        more += watcher.on_event(event)
                    if over:
                        watched.remove(each)
                        failure = _outcome(each)
                        if failure is not None:
                            failures[each.name] = failure
                        more += watcher.on_end(each.name, failure)
                self._submit(more, watched)
        finally:
            if self.cluster == "local":  # these processes would outlive the driver
                for each in watched:
                    each.handle.cancel(check=False)
            else:
                self._remember(watched)
        return failures

    def _submit(self, jobs: list[Job], watched: "list[_Watched]") -> None:
        """Submit the jobs that are not queued yet, and watch all."""
        if not jobs:
            return
        submitit = _submitit()
        self.folder.mkdir(parents=True, exist_ok=True)
        queued = self._queued({job.name: job.event_type for job in jobs})
        by_resources: dict[str, list[Job]] = {}
        for job in jobs:
            before = queued.get(job.name)
            if before is not None and before.digest == _digest(job):
                watched.append(before)
            else:
                by_resources.setdefault(job.resources.model_dump_json(), []).append(job)
        for alike in by_resources.values():
            executor = self._executor(submitit, alike[0].resources)
            boxes: list[Mailbox[Any]] = [
                Mailbox(self.folder / f"events-{uuid.uuid4().hex}.jsonl", job.event_type)
                for job in alike
            ]
            try:
                with isolated_imports(), executor.batch():
                    handles = [
                        executor.submit(_Call(job, box))
                        for job, box in zip(alike, boxes, strict=True)
                    ]
            except submitit.core.utils.FailedJobError as error:
                raise InputError(
                    f"--on slurm: sbatch refused the jobs: {str(error).strip()}\n"
                    "The field `resources.slurm` of the experiment file sets the options of sbatch"
                ) from error
            watched += [
                _Watched(job.name, _digest(job), handle, box)
                for job, handle, box in zip(alike, handles, boxes, strict=True)
            ]
            self._remember(watched)

    def _executor(self, submitit: Any, resources: Resources) -> Any:
        try:
            executor = submitit.AutoExecutor(
                folder=self.folder,
                cluster=self.cluster,
                slurm_max_num_timeout=resources.slurm.timeouts,
                local_max_num_timeout=resources.slurm.timeouts,
            )
        except RuntimeError as error:
            raise InputError(
                f"--on slurm: {error}. Submit from a node that has sbatch, or try it on this "
                "machine: --on slurm:local"
            ) from error
        executor.update_parameters(**parameters(resources))
        return executor

    def _remember(self, watched: "list[_Watched]") -> None:
        jobs = {
            each.name: {
                "job": str(each.handle.job_id),
                "digest": each.digest,
                "events": each.mailbox.path.name,
            }
            for each in watched
        }
        write_sealed(self.folder / _SUBMITTED, jobs)

    def _queued(self, event_types: Mapping[str, type[Any]]) -> "dict[str, _Watched]":
        """Return the jobs that an earlier driver submitted and whose end it did not see.

        Args:
            event_types: name of a job -> dataclass of its events.

        Raises:
            InputError: if ``submitted.json`` is damaged.
        """
        path = self.folder / _SUBMITTED
        if self.cluster == "local" or not path.is_file():
            return {}
        queued, submitted = {}, read_sealed(path, "delete it")
        try:
            for name, entry in submitted.items():
                if not _JOB.fullmatch(entry["job"]) or not _EVENTS.fullmatch(entry["events"]):
                    raise ValueError(f"not a job of ntpctp: {entry}")
                if name not in event_types:
                    continue
                handle = _submitit().SlurmJob(self.folder, entry["job"])
                box: Mailbox[Any] = Mailbox(self.folder / entry["events"], event_types[name])
                queued[name] = _Watched(name, entry["digest"], handle, box)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: invalid list of queued jobs: {error}. Delete it") from error
        return queued


@dataclass
class _Watched:
    """A queued or running job."""

    name: str
    digest: str
    handle: Any
    mailbox: Mailbox[Any]


@dataclass
class _Call:
    """The pickled callable that executes a job on its node."""

    job: Job
    mailbox: Mailbox[Any]

    def __call__(self) -> None:
        import torch

        requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's
        signals.listen(signal.SIGUSR2)  # near the time limit; SIGTERM: preempted
        torch.set_num_threads(self.job.resources.cpus or 1)
        failure = attempt(self.job, self.mailbox.send)
        if signals.stop_requested() and failure is not None and _can_requeue():
            requeue(signal.SIGUSR2, None)  # ends this process
        write_json(_outcome_path(self.mailbox), None if failure is None else asdict(failure))

    def checkpoint(self) -> Any:
        """Return the callable for a requeued job: the same, as a run resumes by itself."""
        return _submitit().helpers.DelayedSubmission(self)


def _digest(job: Job) -> str:
    """Return a hash of the work of a job."""
    return hashlib.sha256(pickle.dumps((job.work, job.arguments))).hexdigest()


def _can_requeue() -> bool:
    """Whether a job that was asked to stop can be requeued.

    Not if the user cancelled it, or Slurm has requeued it already.
    """
    environment = _submitit().JobEnvironment()
    if environment.cluster != "slurm":
        return True
    query = ["squeue", "--noheader", "--format=%T", f"--jobs={environment.job_id}"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout.strip() == "RUNNING"


def _outcome(watched: _Watched) -> Failure | None:
    """Return the failure of an ended job, or None."""
    handle, path = watched.handle, _outcome_path(watched.mailbox)
    end = time.monotonic() + _SETTLE_SECONDS
    while not path.is_file():
        if time.monotonic() > end:
            # A job writes its own failures: so its process was lost, or never started.
            printed = handle.stderr() or handle.stdout() or ""
            message = f"Slurm job {handle.job_id} ended without a result (state: {handle.state})"
            return Failure(message, printed[-20_000:], of_machine=True)
        time.sleep(_LOOK_SECONDS)
    return read_outcome(path)


def _outcome_path(mailbox: Mailbox[Any]) -> Path:
    """Return the file in which a job writes its failure, or null."""
    return mailbox.path.with_suffix(".outcome.json")


def parameters(resources: Resources) -> dict[str, Any]:
    """Return the parameters of submitit for the resources of a job."""
    site = resources.slurm
    named = {
        f"slurm_{name}": getattr(site, name)
        for name in ("partition", "account", "qos", "constraint")
        if getattr(site, name)
    }
    return {
        "name": "ntpctp",
        "nodes": 1,
        "tasks_per_node": 1,  # accelerate launch starts the processes of a run
        "cpus_per_task": resources.cpus or resources.num_processes,
        "gpus_per_node": resources.gpus,
        "timeout_min": site.minutes,
        **({"mem_gb": resources.memory_gib} if resources.memory_gib else {}),
        "slurm_array_parallelism": site.at_once,
        "slurm_signal_delay_s": site.signal_seconds,
        # Slurm requeues jobs whose node fails, and those that it preempts.
        "slurm_additional_parameters": {"requeue": True, **site.more},
        # As `isolated_imports`, where sbatch does not pass the environment on.
        "slurm_setup": [*site.setup, "export PYTHONSAFEPATH=1"],
        **named,
    }


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "--on slurm: submitit is not installed: pip install ntpctp[slurm]"
        ) from error
    return submitit
