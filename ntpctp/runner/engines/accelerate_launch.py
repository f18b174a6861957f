"""Several processes for one job: ``accelerate launch`` within the resources of the job."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ntpctp.config.resources import Resources
from ntpctp.runner.engines.base import Failure
from ntpctp.runner.engines.mailbox import Mailbox, read_outcome

E = TypeVar("E")

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 8.0
"""For the processes to save a checkpoint after this one is asked to stop."""


@dataclass(frozen=True)
class LaunchRequest:
    """Input of each process, as JSON.

    Attributes:
        work: what to do, for the launched module.
        processes: expected number.
        events: path of the mailbox for events of the main process.
        outcome: path of the file in which the main process writes its failure, or null.
    """

    work: Mapping[str, Any]
    processes: int
    events: str
    outcome: str


def launch(
    module: str,
    work: Mapping[str, Any],
    resources: Resources,
    *,
    send: Callable[[E], None],
    event_type: type[E],
    config: str | None = None,
) -> Failure | None:
    """Run ``python -m module FILE`` in several processes, and wait for them.

    Args:
        module: reads a ``LaunchRequest`` from the file and writes the outcome.
        work: what to do, JSON-ready.
        resources: numbers of processes, threads and GPUs.
        send: called with the events of the main process.
        event_type: their dataclass.
        config: content of an accelerate configuration file; None: every process holds the whole
            model.

    Returns:
        The failure of the main process, or None.
    """
    with tempfile.TemporaryDirectory(prefix="ntpctp-launch-") as directory:
        job, box = (
            Path(directory) / "job.json",
            Mailbox(Path(directory) / "events.jsonl", event_type),
        )
        outcome = Path(directory) / "outcome.json"
        request = LaunchRequest(work, resources.num_processes, str(box.path), str(outcome))
        job.write_text(json.dumps(asdict(request)), "utf-8")
        with (Path(directory) / "printed").open("w+", encoding="utf-8") as printed:
            process = subprocess.Popen(
                command(module, job, resources, config),
                env=_environment(resources),
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
            try:
                while process.poll() is None:
                    time.sleep(_POLL_SECONDS)
                    for one in box.receive():
                        send(one)
            except BaseException:
                process.terminate()  # the launcher passes the signal on; its processes save
                try:
                    process.wait(_GRACE_SECONDS)
                finally:
                    process.kill()
                raise
            for one in box.receive():
                send(one)
            if outcome.is_file():
                return read_outcome(outcome)
            printed.seek(0)
            return Failure(
                f"accelerate launch exited early with code {process.returncode}",
                printed.read()[-20_000:],
                of_machine=process.returncode < 0,
            )


def command(module: str, job: Path, resources: Resources, config: str | None) -> list[str]:
    """Return the command that launches a module in several processes of this machine.

    ``--multi_gpu`` is accelerate's name for one process a rank; with ``--cpu`` it would start a
    single process. On CPUs the environment forbids GPUs instead.
    """
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    if config is None:
        launcher += ["--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"]
    else:
        path = job.with_name("accelerate.yaml")
        path.write_text(config, "utf-8")
        launcher += ["--config_file", str(path)]
    launcher += ["--num_processes", str(resources.num_processes), "--num_machines", "1"]
    launcher += ["--main_process_port", "0"]  # any free port: jobs may share a machine
    return [*launcher, "--module", module, str(job)]


def _environment(resources: Resources) -> dict[str, str]:
    threads = max(1, (resources.cpus or 1) // resources.num_processes)
    # PYTHONSAFEPATH keeps the current directory off the module path, see `isolated_imports`.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONSAFEPATH": "1"}
    if not resources.gpus:
        environment["ACCELERATE_USE_CPU"] = "true"
    return environment
