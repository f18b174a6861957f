"""What every run of an experiment is doing, read from its directory; no checkpoint is opened."""

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
from ntpctp.runner.heartbeat import DEAD_SECONDS, read_failure, read_worker
from ntpctp.runner.summary import ExperimentSummary

_TAIL = 2048
"""Bytes at the end of a log that hold its last line."""

State = Literal["done", "running", "failed", "stopped", "waiting"]


@dataclass(frozen=True)
class RunState:
    """One run.

    Attributes:
        run: which.
        state: ``stopped``: begun, but no process works on it now.
        host: where it runs or ran last; None: not recorded.
        step: of the last line of its log; 0 before the first.
        steps: of its training.
        loss: of that line, the arm's own.
        measured: checkpoints whose measures are all stored.
        checkpoints: that it is to have.
        last_sign: when it was last known to be alive, to 20 seconds, in seconds since the epoch;
            None: never begun.
        seconds_a_step: of its training so far; None: not known.
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


def states_of(asked: ExperimentSummary, output: Path) -> Iterator[RunState]:
    """Yield the state of every run, seed by seed.

    It looks at what is there: a checkpoint counts as measured when the results of all its measures
    are, whether they hold is for ``ntpctp run`` to verify. Costs a few file accesses a run.
    """
    needed = {arm: _needed(asked, arm) for arm in asked.steps}
    host = platform.node()
    for run in asked.runs():
        yield _state_of(run, output, asked.steps[run.arm], needed[run.arm], host)


def _needed(asked: ExperimentSummary, arm: str) -> list[list[str]]:
    """Return, for each checkpoint, the paths below a run's directory that tell it is measured."""
    found = []
    for step, measures in asked.measured_at(arm).items():
        checkpoint = checkpoint_directory(Path(STAGE), step)
        paths = [scores_path(checkpoint, measure) for measure in measures] or [checkpoint]
        found.append([str(path) for path in paths])
    return found


def _state_of(run: RunId, output: Path, steps: int, needed: list[list[str]], host: str) -> RunState:
    # Names are joined as text: of ten thousand runs, Path takes longer than the disk.
    directory = f"{output}/{run.arm}/seed-{run.seed}"
    last = _last_line(f"{directory}/{STAGE}/{LOG}")
    if last is None and not os.path.isdir(directory):
        return RunState(run, "waiting", None, 0, steps, None, 0, len(needed), None, None, None)
    measured = 0
    # Checkpoints are measured in order; of finished runs one look at the last is enough.
    if _are_there(directory, needed[-1]):
        measured = len(needed)
    elif last:
        measured = sum(_are_there(directory, paths) for paths in needed[:-1])
    failure = read_failure(directory)
    worker = read_worker(directory)
    last_sign = worker.get("alive")
    # The lock of another machine cannot be seen everywhere; its signs of life can.
    elsewhere = worker.get("host") not in (None, host) and not failure and measured < len(needed)
    fresh = last_sign is not None and time.time() - last_sign < DEAD_SECONDS
    if _is_held(f"{directory}/.lock") or (elsewhere and fresh):
        state: State = "running"
    elif measured == len(needed):
        state = "done"
    elif failure:
        state = "failed"
    else:
        state = "stopped"
    step, seconds = (last.step, last.seconds) if last else (0, 0.0)
    return RunState(
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


def _are_there(directory: str, paths: list[str]) -> bool:
    return all(os.path.exists(f"{directory}/{path}") for path in paths)


class _Line(NamedTuple):
    """What is looked at in a line of a log."""

    step: int
    loss: float
    seconds: float


def _last_line(log: str) -> _Line | None:
    """Return the last whole line of a log; None: there is none yet."""
    try:
        file = os.open(log, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        tail = os.pread(file, _TAIL, max(0, os.fstat(file).st_size - _TAIL))
    except IsADirectoryError:
        return None  # the run itself will tell
    finally:
        os.close(file)
    # What a killed process left half written is no line.
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


def seconds_left(states: list[RunState]) -> float | None:
    """Return how long training will still take, if it goes on as now; None: nothing to judge by.

    The steps that are left by the mean time of a step of their arm (of all arms where it has none),
    shared by the runs that are at work. Measuring and comparing come on top.
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


def record_of(asked: ExperimentSummary, output: Path, states: list[RunState]) -> dict[str, Any]:
    """Return the states of an experiment as JSON has them."""
    return {
        "experiment": asked.name,
        "directory": str(output),
        "counts": dict(Counter(state.state for state in states)),
        "seconds_left": seconds_left(states),
        "runs": [{**vars(state), **vars(state.run), "run": str(state.run)} for state in states],
    }
