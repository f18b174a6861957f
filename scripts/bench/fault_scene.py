"""The setting of a fault: the experiment that it strikes, waiting for its moment, its outcome."""

import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fault_files import leftovers
from fault_processes import Command, Setup

Start = Callable[[Setup | None], Command]
"""Starts the command that resumes the experiment; its processes first call the argument."""


@dataclass
class Scene:
    """The experiment that a fault strikes.

    Attributes:
        home: parent directory of ``output`` and of the encoded data.
        output: directory of the experiment.
        start: see ``Start``.
        moments: random generator of all draws.
        seconds: duration of the undisturbed command.
        calls: process -> number of its calls that change a file.
        typed: whether commands are started in new interpreters.
    """

    home: Path
    output: Path
    start: Start
    moments: random.Random
    seconds: float
    calls: Mapping[str, int]
    typed: bool


@dataclass
class Outcome:
    """The outcome of a fault.

    Attributes:
        what: description of the fault.
        struck: whether it had an effect.
        commands: exit code and output of all commands that it struck, in order.
        wrong: problems that were found.
        damaged: whether the fault damaged finished files.
    """

    what: str
    struck: bool
    commands: list[tuple[int, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    damaged: bool = False


def until(command: Command, reached: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait for a condition; return False if the command ended before."""
    end = time.monotonic() + seconds
    while not reached():
        if command.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.0005)
    return command.poll() is None


def sometime(scene: Scene, command: Command) -> bool:
    """Wait for a random time within the command; return False if it ended before."""
    wait = scene.moments.uniform(0, scene.seconds)
    if scene.typed:  # its interpreters first import the library
        until(command, lambda: command.log.stat().st_size > 0)
        wait = 2 * wait + 5
    end = time.monotonic() + wait
    return until(command, lambda: time.monotonic() >= end)


def while_writing(scene: Scene, command: Command) -> bool:
    """Wait until a checkpoint or another file is being written."""
    return sometime(scene, command) and until(command, lambda: bool(leftovers(scene.output)))


def moment(scene: Scene, command: Command) -> bool:
    """Wait for a random time or for a write; return False if the command ended before."""
    return scene.moments.choice([sometime, while_writing])(scene, command)


def ended(command: Command, outcome: Outcome, *allowed: int) -> Outcome:
    """Add the end of a command to the outcome; exit codes not in ``allowed`` are a problem."""
    try:
        code = command.wait()
    except TimeoutError as error:
        outcome.wrong.append(f"hung: {error}")
        code = -signal.SIGKILL
    outcome.commands.append((code, command.output()))
    if outcome.struck and allowed and code not in allowed:
        outcome.wrong.append(f"exit code {code}, expected {' or '.join(map(str, allowed))}")
    return outcome


def plain(outcome: Outcome) -> Outcome:
    """Report tracebacks as a problem: users can fix these faults, so they get plain messages."""
    for _, output in outcome.commands:
        if outcome.struck and "Traceback" in output:
            outcome.wrong.append("a traceback")
    return outcome
