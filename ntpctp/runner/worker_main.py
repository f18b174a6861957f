"""The module that ``accelerate launch`` starts in every process of a multi-process run."""

import sys
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env
from pydantic import TypeAdapter

from ntpctp._core import signals
from ntpctp._core.files import read_json, write_json
from ntpctp.runner.engines import Failure, Job
from ntpctp.runner.engines.accelerate_launch import LaunchRequest
from ntpctp.runner.engines.base import attempt
from ntpctp.runner.engines.mailbox import Mailbox
from ntpctp.runner.events import Event
from ntpctp.runner.worker import RunRequest, execute_in_process
from ntpctp.training.accelerator import leave_process_group


def main(path: Path) -> None:
    """Execute the request in ``path`` as one of its processes."""
    signals.listen()
    launched = TypeAdapter(LaunchRequest).validate_python(read_json(path))
    request = TypeAdapter(RunRequest).validate_python(launched.work)
    # As Accelerator() does: PartialState() alone ignores other processes on a CPU.
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    failure: Failure | None
    if state.num_processes == launched.processes:
        send = Mailbox(Path(launched.events), Event).send if state.is_main_process else _ignore
        failure = attempt(Job(str(request.run), execute_in_process, (request,)), send)
    else:
        failure = Failure(
            f"wrong number of processes: expected {launched.processes}, accelerate launch started "
            f"{state.num_processes}. Set num_processes in the file resources.accelerate to match"
        )
    if state.is_main_process:
        write_json(Path(launched.outcome), None if failure is None else asdict(failure))
    elif failure is not None:
        print(failure.traceback or failure.message, file=sys.stderr)
    if failure is not None:
        raise SystemExit(1)
    leave_process_group(Accelerator())


def _ignore(event: object) -> None:
    """Only the main process sends events."""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
