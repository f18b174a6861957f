"""Status of every run, read from an experiment's directory without opening a checkpoint."""

import fcntl
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ntpctp._core.layout import LOG, STAGE, RunId, checkpoint_directory, scores_path
from ntpctp.runner.heartbeat import TIMEOUT_SECONDS, read_failure, read_worker
from ntpctp.runner.summary import ExperimentSummary

_TAIL = 2048
"""Bytes at the end of a log that hold its last line."""

State = Literal["done", "running", "failed", "stopped", "waiting"]


@dataclass(frozen=True)
class RunStatus:
    """Status of one run.

    Attributes:
        run: arm and seed.
        state: ``stopped``: started, but no process works on it now.
        host: of its current or last worker; None: not recorded.
        step: of the last line of its log; 0 before the first.
        steps: of its training.
        loss: on the last line of its log, under the arm's own objective.
        measured: checkpoints whose measures are all stored.
        checkpoints: that the run will have.
        last_sign: time of the last heartbeat, in seconds since the epoch; None: never started.
        seconds_a_step: mean over its training so far; None: unknown.
        failure: message and traceback of a failed run.
    """

    run: RunId
    state: State
    host: str | None
    step: int
    steps: int
    loss: float | None
    measured: int
    checkpoints: int
    last_sign: float | None
    seconds_a_step: float | None
    failure: dict[str, Any] | None


def run_statuses(summary: ExperimentSummary, output: Path) -> Iterator[RunStatus]:
    """Yield the status of every run, seed by seed; costs a few file accesses a run.

    A checkpoint counts as measured when the results of all its measures exist; only ``ntpctp run``
    verifies them.
    """
    needed = {arm: _needed(summary, arm) for arm in summary.steps}
    host = platform.node()
    for run in summary.runs():
        yield _status_of(run, output, summary.steps[run.arm], needed[run.arm], host)


def _needed(summary: ExperimentSummary, arm: str) -> list[list[str]]:
    """Return, for each checkpoint, the paths below its run that exist once it is measured."""
    needed = []
    for step, measures in summary.measured_at(arm).items():
        checkpoint = checkpoint_directory(Path(STAGE), step)
        paths = [scores_path(checkpoint, measure) for measure in measures] or [checkpoint]
        needed.append([str(path) for path in paths])
    return needed


def _status_of(
    run: RunId, output: Path, steps: int, needed: list[list[str]], host: str
) -> RunStatus:
    # Names are joined as text: for ten thousand runs, Path takes longer than the disk.
    directory = f"{output}/{run.arm}/seed-{run.seed}"
    last = _last_line(f"{directory}/{STAGE}/{LOG}")
    if last is None and not os.path.isdir(directory):
        return RunStatus(run, "waiting", None, 0, steps, None, 0, len(needed), None, None, None)
    measured = 0
    # Checkpoints are measured in order; for a finished run, looking at the last is enough.
    if _all_exist(directory, needed[-1]):
        measured = len(needed)
    elif last:
        measured = sum(_all_exist(directory, paths) for paths in needed[:-1])
    failure = read_failure(directory)
    worker = read_worker(directory)
    last_sign = worker.get("alive")
    # Not every file system shows the lock of another machine; the heartbeat is a file.
    elsewhere = worker.get("host") not in (None, host) and not failure and measured < len(needed)
    fresh = last_sign is not None and time.time() - last_sign < TIMEOUT_SECONDS
    if _is_held(f"{directory}/.lock") or (elsewhere and fresh):
        state: State = "running"
    elif measured == len(needed):
        state = "done"
    elif failure:
        state = "failed"
    else:
        state = "stopped"
    step, seconds = (last.step, last.seconds) if last else (0, 0.0)
    return RunStatus(
        run,
        state,
        worker.get("host"),
        step,
        steps,
        last.loss if last else None,
        measured,
        len(needed),
        last_sign,
        seconds / step if step else None,
        failure,
    )


def _all_exist(directory: str, paths: list[str]) -> bool:
    return all(os.path.exists(f"{directory}/{path}") for path in paths)


class _Line(NamedTuple):
    """Fields of a line of a log."""

    step: int
    loss: float
    seconds: float


def _last_line(log: str) -> _Line | None:
    """Return the last complete line of a log; None: no such line yet."""
    try:
        file = os.open(log, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        tail = os.pread(file, _TAIL, max(0, os.fstat(file).st_size - _TAIL))
    except IsADirectoryError:
        return None  # the run itself will report it
    finally:
        os.close(file)
    # A killed process may leave an incomplete line.
    for line in reversed(tail[: tail.rfind(b"\n") + 1].splitlines()):
        try:
            found = json.loads(line)
            return _Line(int(found["step"]), float(found["loss"]), float(found["seconds"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
    return None


def _is_held(lock: str) -> bool:
    """Whether a process of this host holds a lock."""
    try:
        file = os.open(lock, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def seconds_left(states: list[RunStatus]) -> float | None:
    """Return the estimated training time left, in seconds; None: no run has trained a step yet.

    Remaining steps times the mean time of a step of their arm (of all arms, if the arm has none),
    divided by the number of running runs. Measuring and comparing are not included.
    """
    known: dict[str, list[float]] = {}
    for state in states:
        if state.seconds_a_step is not None:
            known.setdefault(state.run.arm, []).append(state.seconds_a_step)
    if not known:
        return None
    means = {arm: sum(of_arm) / len(of_arm) for arm, of_arm in known.items()}
    everywhere = sum(map(sum, known.values())) / sum(map(len, known.values()))
    left = sum(
        (state.steps - state.step) * means.get(state.run.arm, everywhere)
        for state in states
        if state.state in ("running", "stopped", "waiting")
    )
    return left / max(1, sum(state.state == "running" for state in states))


def status_record(
    summary: ExperimentSummary, output: Path, states: list[RunStatus]
) -> dict[str, Any]:
    """Return the status of an experiment as JSON-ready values, see ``ntpctp status --json``."""
    return {
        "experiment": summary.name,
        "directory": str(output),
        "counts": dict(Counter(state.state for state in states)),
        "seconds_left": seconds_left(states),
        "runs": [{**vars(state), **vars(state.run), "run": str(state.run)} for state in states],
    }
