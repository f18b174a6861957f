"""The module that ``accelerate launch`` starts in every process of a run that has several."""

import sys
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env

from ntpctp._core import signals
from ntpctp._core.files import read_json, rebuilt, write_json
from ntpctp.runner.engines import Failure, Job
from ntpctp.runner.engines.accelerate_launch import Launched
from ntpctp.runner.engines.base import attempt
from ntpctp.runner.engines.mailbox import Mailbox
from ntpctp.runner.events import Event
from ntpctp.runner.worker import RunTask, do_here
from ntpctp.training.accelerator import leave_process_group


def main(path: Path) -> None:
    """Do the task in ``path`` as one of its processes."""
    signals.listen()
    launched: Launched = rebuilt(Launched, read_json(path))
    task: RunTask = rebuilt(RunTask, launched.what)
    # As Accelerator() does; by itself it would not see other processes on a CPU.
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    failure: Failure | None
    if state.num_processes == launched.processes:
        send = Mailbox(Path(launched.events), Event).send if state.is_main_process else _nothing
        failure = attempt(Job(str(task.run), do_here, (task,)), send)
    else:
        failure = Failure(
            f"expected {launched.processes} processes, accelerate launch started "
            f"{state.num_processes}: resources.accelerate is a configuration for another number"
        )
    if state.is_main_process:
        write_json(Path(launched.outcome), None if failure is None else asdict(failure))
    elif failure is not None:
        print(failure.traceback or failure.message, file=sys.stderr)
    if failure is not None:
        raise SystemExit(1)
    leave_process_group(Accelerator())


def _nothing(event: object) -> None:
    """The first process tells for all."""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
