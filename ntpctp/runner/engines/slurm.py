"""Jobs as a Slurm job array, through submitit; or through its local executor, to try that.

The folder of submissions lies beside the results, on a file system that all nodes share: batch
files, pickled jobs, what each printed, what it tells the driver (``events-<id>.jsonl``), and
``submitted.json``: which jobs are in the queue, so that a driver that is started again finds them
(those that do what it wants done: a digest of their arguments tells).

What is pickled is read by the job alone, and written by the driver that submits it. What becomes of
a job comes back as JSON (``events-<id>.outcome.json``): a driver may be pointed at a directory that
somebody else has filled.
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
from ntpctp._core.files import read_json, rebuilt, write_json
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp.config.resources import Resources
from ntpctp.runner.engines.base import Failure, Job, Watcher, attempt
from ntpctp.runner.engines.mailbox import Mailbox

_POLL_SECONDS = 2.0
_LOOK_SECONDS = 0.2
_SETTLE_SECONDS = 15.0
"""Until a file that a node wrote is seen here at the latest."""
_SUBMITTED = "submitted.json"
_JOB = re.compile(r"[0-9]+(_[0-9]+)?")
_EVENTS = re.compile(r"events-[0-9a-f]{32}\.jsonl")


@dataclass
class Slurm:
    """A Slurm cluster, submitted to from one of its nodes.

    Attributes:
        folder: of the submissions; on a file system that all nodes share.
        cluster: ``local``: processes of this machine that only look like jobs.
        poll_seconds: between two looks at the jobs.
    """

    folder: Path
    cluster: Literal["slurm", "local"] = "slurm"
    poll_seconds: float = _POLL_SECONDS
    name: str = field(default="slurm", init=False)
    measures_apart: bool = field(default=False, init=False)

    def run(self, jobs: Iterable[Job], watcher: Watcher) -> dict[str, Failure]:
        """Do all jobs, see ``Engine``: one array for those that ask for the same resources.

        If this process ends, jobs stay in the queue, and the next call watches them again.

        Raises:
            InputError: if submitit is not installed, there is no Slurm, or sbatch refuses.
        """
        watched: list[_Watched] = []
        failures: dict[str, Failure] = {}
        self._submit(list(jobs), watched)
        try:
            while watched:
                time.sleep(self.poll_seconds)
                more: list[Job] = []
                for each in list(watched):
                    over = each.handle.done()  # before its events are read: none comes after
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
            if self.cluster == "local":  # nobody else would end them
                for each in watched:
                    each.handle.cancel(check=False)
            else:
                self._remember(watched)
        return failures

    def _submit(self, jobs: list[Job], watched: "list[_Watched]") -> None:
        """Submit jobs that are not in the queue from before, and watch all."""
        if not jobs:
            return
        submitit = _submitit()
        self.folder.mkdir(parents=True, exist_ok=True)
        queued = self._queued({job.name: job.sends for job in jobs})
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
                Mailbox(self.folder / f"events-{uuid.uuid4().hex}.jsonl", job.sends)
                for job in alike
            ]
            try:
                with executor.batch():
                    handles = [
                        executor.submit(_Call(job, box))
                        for job, box in zip(alike, boxes, strict=True)
                    ]
            except submitit.core.utils.FailedJobError as error:
                raise InputError(
                    f"--on slurm: sbatch refused the jobs: {str(error).strip()}\n"
                    "resources.slurm in the experiment file says what it is asked for"
                ) from error
            watched += [
                _Watched(job.name, _digest(job), handle, box)
                for job, handle, box in zip(alike, handles, boxes, strict=True)
            ]
            self._remember(watched)

    def _executor(self, submitit: Any, asked: Resources) -> Any:
        try:
            executor = submitit.AutoExecutor(
                folder=self.folder,
                cluster=self.cluster,
                slurm_max_num_timeout=asked.slurm.timeouts,
                local_max_num_timeout=asked.slurm.timeouts,
            )
        except RuntimeError as error:
            raise InputError(
                f"--on slurm: {error}; submit from a node that has sbatch, or try it on this "
                "machine: --on slurm:local"
            ) from error
        executor.update_parameters(**parameters(asked))
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

    def _queued(self, sends: Mapping[str, type[Any]]) -> "dict[str, _Watched]":
        """Return those jobs that an earlier driver submitted and did not see the end of.

        Args:
            sends: name of a job -> the dataclass of its events.
        """
        path = self.folder / _SUBMITTED
        if self.cluster == "local" or not path.is_file():
            return {}
        found, submitted = {}, read_sealed(path, "delete it")
        try:
            for name, entry in submitted.items():
                if not _JOB.fullmatch(entry["job"]) or not _EVENTS.fullmatch(entry["events"]):
                    raise ValueError(f"no job of this program: {entry}")
                if name not in sends:
                    continue
                handle = _submitit().SlurmJob(self.folder, entry["job"])
                box: Mailbox[Any] = Mailbox(self.folder / entry["events"], sends[name])
                found[name] = _Watched(name, entry["digest"], handle, box)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: expected the jobs in the queue: {error}; delete it") from (
                error
            )
        return found


@dataclass
class _Watched:
    """A job in the queue, or at work."""

    name: str
    digest: str
    handle: Any
    mailbox: Mailbox[Any]


@dataclass
class _Call:
    """What is pickled for a job, and called on its node."""

    job: Job
    mailbox: Mailbox[Any]

    def __call__(self) -> None:
        import torch

        requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's
        signals.listen(signal.SIGUSR2)  # that time is nearly over; SIGTERM: that it is preempted
        torch.set_num_threads(self.job.resources.cpus or 1)
        failure = attempt(self.job, self.mailbox.send)
        if signals.asked() and failure is not None and _may_come_back():
            requeue(signal.SIGUSR2, None)  # ends this process
        write_json(_outcome_path(self.mailbox), None if failure is None else asdict(failure))

    def checkpoint(self) -> Any:
        """Return what is called when the job comes back: the same; it resumes by itself."""
        return _submitit().helpers.DelayedSubmission(self)


def _digest(job: Job) -> str:
    """Return what changes with what a job is to do."""
    return hashlib.sha256(pickle.dumps((job.work, job.arguments))).hexdigest()


def _may_come_back() -> bool:
    """Whether a job that was told to stop is Slurm's still.

    Not one that the user has cancelled, or that Slurm itself has already queued again.
    """
    environment = _submitit().JobEnvironment()
    if environment.cluster != "slurm":
        return True
    asked = ["squeue", "--noheader", "--format=%T", f"--jobs={environment.job_id}"]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    return answer.stdout.strip() == "RUNNING"


def _outcome(watched: _Watched) -> Failure | None:
    """Return what became of a job that is over."""
    handle, path = watched.handle, _outcome_path(watched.mailbox)
    end = time.monotonic() + _SETTLE_SECONDS
    while not path.is_file():
        if time.monotonic() > end:
            # A job writes down its failures: its process is gone, or never was.
            printed = handle.stderr() or handle.stdout() or ""
            message = f"its job {handle.job_id} ended without a result (state: {handle.state})"
            return Failure(message, printed[-20_000:], of_machine=True)
        time.sleep(_LOOK_SECONDS)
    failure: Failure | None = rebuilt(Failure | None, read_json(path))
    return failure


def _outcome_path(mailbox: Mailbox[Any]) -> Path:
    """Return where a job writes down what became of it."""
    return mailbox.path.with_suffix(".outcome.json")


def parameters(asked: Resources) -> dict[str, Any]:
    """Return what submitit is told of the resources of a job."""
    site = asked.slurm
    named = {
        f"slurm_{name}": getattr(site, name)
        for name in ("partition", "account", "qos", "constraint", "setup")
        if getattr(site, name)
    }
    return {
        "name": "ntpctp",
        "nodes": 1,
        "tasks_per_node": 1,  # accelerate launch starts the processes of a run
        "cpus_per_task": asked.cpus or asked.num_processes,
        "gpus_per_node": asked.gpus,
        "timeout_min": site.minutes,
        **({"mem_gb": asked.memory_gib} if asked.memory_gib else {}),
        "slurm_array_parallelism": site.at_once,
        "slurm_signal_delay_s": site.signal_seconds,
        # Jobs whose node fails, and those that Slurm preempts by itself, come back.
        "slurm_additional_parameters": {"requeue": True, **site.more},
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
