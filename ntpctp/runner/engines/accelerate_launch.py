"""Several processes for one job: ``accelerate launch`` inside of what the job was given."""

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

from ntpctp._core.files import read_json, rebuilt
from ntpctp.config.resources import Resources
from ntpctp.runner.engines.base import Failure
from ntpctp.runner.engines.mailbox import Mailbox

E = TypeVar("E")

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 8.0
"""For the processes to save, when this one is told to stop."""


@dataclass(frozen=True)
class Launched:
    """What each of the processes is given.

    Attributes:
        what: to do.
        processes: that there have to be.
        events: path of the mailbox that the first process writes to.
        outcome: path of the failure, or null, that the first process writes at its end.
    """

    what: Mapping[str, Any]
    processes: int
    events: str
    outcome: str


def launch(
    module: str,
    what: Mapping[str, Any],
    asked: Resources,
    send: Callable[[E], None],
    event: type[E],
    config: str | None = None,
) -> Failure | None:
    """Run ``python -m module FILE`` in several processes, and wait for them.

    Args:
        module: its main reads the file by ``read_launched``, and writes the outcome.
        what: the content of the file, as JSON.
        asked: the number of processes, of threads, and whether they are to use GPUs.
        send: called with the events of the first process.
        event: the dataclass that these are of.
        config: content of a configuration file of accelerate; None: every process has the whole
            model.
    """
    with tempfile.TemporaryDirectory(prefix="ntpctp-launch-") as directory:
        job, box = Path(directory) / "job.json", Mailbox(Path(directory) / "events.jsonl", event)
        outcome = Path(directory) / "outcome.json"
        launched = Launched(what, asked.num_processes, str(box.path), str(outcome))
        job.write_text(json.dumps(asdict(launched)), "utf-8")
        with (Path(directory) / "printed").open("w+", encoding="utf-8") as printed:
            process = subprocess.Popen(
                command(module, job, asked, config),
                env=_environment(asked),
                stdout=printed,
                stderr=subprocess.STDOUT,
            )
            try:
                while process.poll() is None:
                    time.sleep(_POLL_SECONDS)
                    for one in box.receive():
                        send(one)
            except BaseException:
                process.terminate()  # it tells its processes, which save
                try:
                    process.wait(_GRACE_SECONDS)
                finally:
                    process.kill()
                raise
            for one in box.receive():
                send(one)
            if outcome.is_file():
                failure: Failure | None = rebuilt(Failure | None, read_json(outcome))
                return failure
            printed.seek(0)
            return Failure(
                f"accelerate launch ended early: exit code {process.returncode}",
                printed.read()[-20_000:],
                of_machine=process.returncode < 0,
            )


def command(module: str, job: Path, asked: Resources, config: str | None) -> list[str]:
    """Return how to launch a module in several processes of this machine.

    ``--multi_gpu`` is how accelerate calls one process a rank; with ``--cpu`` it would start one
    process alone. On CPUs the environment says that no GPU is to be used.
    """
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    if config is None:
        launcher += ["--multi_gpu", "--mixed_precision", "no", "--dynamo_backend", "no"]
    else:
        path = job.with_name("accelerate.yaml")
        path.write_text(config, "utf-8")
        launcher += ["--config_file", str(path)]
    launcher += ["--num_processes", str(asked.num_processes), "--num_machines", "1"]
    launcher += ["--main_process_port", "0"]  # a free one: several jobs may share a machine
    return [*launcher, "--module", module, str(job)]


def _environment(asked: Resources) -> dict[str, str]:
    threads = max(1, (asked.cpus or 1) // asked.num_processes)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if not asked.gpus:
        environment["ACCELERATE_USE_CPU"] = "true"
    return environment
