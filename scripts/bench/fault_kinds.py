"""The faults: what is drawn, how it strikes a command at work, and whether it did."""

import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from fault_files import damage, everything, leftovers, targets
from fault_processes import Command, FailingDisk, Setup, jumping_clock

Start = Callable[[Setup | None], Command]
"""Starts the command that carries on; with what is done in its processes first."""


@dataclass
class Scene:
    """Where a fault strikes.

    Attributes:
        home: directory of ``output`` and of the data that are encoded beside it.
        output: of the experiment.
        start: see ``Start``.
        moments: what all is drawn from.
        seconds: what the undisturbed command takes.
        calls: how often each of its processes changes a file.
        typed: whether commands are started in interpreters of their own.
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
    """How a fault ended.

    Attributes:
        what: in words.
        struck: whether it had an effect.
        commands: exit code and output of all commands that it struck, in order.
        wrong: what ought not to be.
        damaged: whether it was done to finished files on purpose.
    """

    what: str
    struck: bool
    commands: list[tuple[int, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    damaged: bool = False


def _until(command: Command, reached: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Wait for a moment; False: the command ended before."""
    end = time.monotonic() + seconds
    while not reached():
        if command.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.0005)
    return command.poll() is None


def _sometime(scene: Scene, command: Command) -> bool:
    """Wait until any moment of the command; False: it ended before."""
    wait = scene.moments.uniform(0, scene.seconds)
    if scene.typed:  # its interpreters import the library first
        _until(command, lambda: command.told.stat().st_size > 0)
        wait = 2 * wait + 5
    end = time.monotonic() + wait
    return _until(command, lambda: time.monotonic() >= end)


def _while_writing(scene: Scene, command: Command) -> bool:
    """Wait until a checkpoint or another file is just being written."""
    return _sometime(scene, command) and _until(command, lambda: bool(leftovers(scene.output)))


def _moment(scene: Scene, command: Command) -> bool:
    return scene.moments.choice([_sometime, _while_writing])(scene, command)


def _ended(command: Command, outcome: Outcome, *allowed: int) -> Outcome:
    """Take note of how a command ended: by one of these codes, and in plain words."""
    try:
        code = command.wait()
    except TimeoutError as error:
        outcome.wrong.append(f"hung: {error}")
        code = -signal.SIGKILL
    outcome.commands.append((code, command.output()))
    if outcome.struck and allowed and code not in allowed:
        outcome.wrong.append(f"exit code {code}, expected {' or '.join(map(str, allowed))}")
    return outcome


def _plain(outcome: Outcome) -> Outcome:
    """Complain of tracebacks: the user can mend it."""
    for _, output in outcome.commands:
        if outcome.struck and "Traceback" in output:
            outcome.wrong.append("a traceback")
    return outcome


def killed(scene: Scene) -> Outcome:
    """SIGKILL of all processes at once."""
    command = scene.start(None)
    struck = _moment(scene, command)
    command.kill()
    return _ended(command, Outcome("all processes killed", struck), -signal.SIGKILL)


def worker_killed(scene: Scene) -> Outcome:
    """SIGKILL of one worker: the others go on."""
    command = scene.start(None)
    struck = _moment(scene, command) and _strike_worker(scene, command, signal.SIGKILL) is not None
    outcome = _ended(command, Outcome("a worker killed", struck), 0, 1)
    outcome.struck = struck and outcome.commands[-1][0] != 0  # it may just have been done
    return _plain(outcome)


def driver_killed(scene: Scene) -> Outcome:
    """SIGKILL of the driver; the next one starts while its workers are still there."""
    command = scene.start(None)
    struck = _moment(scene, command)
    workers = command.workers()
    command.send(signal.SIGKILL)
    outcome = _ended(command, Outcome("the driver killed", struck), -signal.SIGKILL)
    if struck:
        # Its runs are refused as long as somebody works on them.
        outcome = _ended(scene.start(None), outcome, 0, 1, 2)
        psutil.wait_procs(workers, timeout=60)
    command.kill()
    return _plain(outcome)


def terminated(scene: Scene) -> Outcome:
    """SIGTERM, as Slurm sends it: saved and over within ten seconds, and it says how to go on."""
    command = scene.start(None)
    struck = _moment(scene, command)
    command.send(signal.SIGTERM)
    sent = time.monotonic()
    outcome = _ended(command, Outcome("SIGTERM", struck), 143)
    _check_told(outcome, time.monotonic() - sent)
    return _plain(outcome)


def _check_told(outcome: Outcome, seconds: float) -> None:
    outcome.what += f", over in {seconds:.1f} s"
    if outcome.struck and seconds > 10:
        outcome.wrong.append(f"took {seconds:.1f} s")
    if outcome.struck and "run the same command again to resume" not in outcome.commands[-1][1]:
        outcome.wrong.append("does not say how to resume")


def _disk(code: int) -> Callable[[Scene], Outcome]:
    def disk(scene: Scene) -> Outcome:
        moments, marks = scene.moments, scene.home.parent / "marks"
        shutil.rmtree(marks, ignore_errors=True)
        marks.mkdir()
        process = moments.choice(list(scene.calls))
        at = moments.randint(1, scene.calls[process])
        lasting = moments.random() < 0.5
        setup = FailingDisk(scene.home, process, code, at, lasting, marks)
        command = scene.start(setup)
        outcome = Outcome(
            f"{errno.errorcode[code]} at change {at} of the {process}{', lasting' * lasting}", False
        )
        _ended(command, outcome)
        outcome.struck = (marks / "struck").exists()
        if outcome.struck:
            outcome.what += f" ({_short((marks / 'struck').read_text().splitlines()[0])})"
            if outcome.commands[-1][0] not in (0, 1):
                outcome.wrong.append(f"exit code {outcome.commands[-1][0]}, expected 1 or 0")
        return _plain(outcome)

    disk.__doc__ = f"{errno.errorcode[code]} at any change of a file, once or from then on."
    return disk


def _short(path: str) -> str:
    return re.sub(r"^.*/out/", "", path)


def full(scene: Scene) -> Outcome:
    """A file system that is full, from any moment on."""
    command = scene.start(None)
    struck = _moment(scene, command)
    more = scene.moments.randint(0, 2**17)
    # Refused where more is used by now.
    while not _remount(scene.home, f"size={shutil.disk_usage(scene.home).used + more}"):
        more += 2**14
    try:
        outcome = _ended(command, Outcome("the file system full", struck))
    finally:
        _remount(scene.home, "size=1g")
    code, output = outcome.commands[-1]
    outcome.struck = struck and "No space left" in output
    if outcome.struck and code not in (0, 1):
        outcome.wrong.append(f"exit code {code}, expected 1 or 0")
    return _plain(outcome)


def read_only(scene: Scene) -> Outcome:
    """A file system that cannot be written from the start."""
    outcome = Outcome("the file system read-only", _remount(scene.home, "ro"))
    try:
        _ended(scene.start(None), outcome, 1)
    finally:
        _remount(scene.home, "rw")
    if outcome.struck and "choose an --output that can be written" not in outcome.commands[-1][1]:
        outcome.wrong.append("does not say what to do")
    return _plain(outcome)


def _remount(home: Path, option: str) -> bool:
    command = ["mount", "-o", f"remount,{option}", str(home)]
    return subprocess.run(command, capture_output=True).returncode == 0


def clock(scene: Scene) -> Outcome:
    """A clock that jumps by days, forwards or back, in the process and on the files."""
    moments = scene.moments
    days = moments.choice([-1, 1]) * moments.uniform(0.1, 4000)
    for path in everything(scene.home):
        if moments.random() < 0.5:
            with suppress(FileNotFoundError):
                at = path.stat().st_mtime + 86400 * days
                os.utime(path, (at, at))
    command = scene.start(jumping_clock(days, moments.randint(0, 20)))
    outcome = Outcome(f"the clock {days:+.1f} days", True)
    if moments.random() < 0.5:
        return _plain(_ended(command, outcome, 0))
    if _moment(scene, command):
        command.kill()
        outcome.what += ", then killed"
        return _ended(command, outcome, -signal.SIGKILL)
    return _plain(_ended(command, outcome, 0))


def hanging(scene: Scene) -> Outcome:
    """A worker that hangs: its driver is ended, another starts meanwhile, then it goes on."""
    command = scene.start(None)
    struck = _moment(scene, command)
    worker = _strike_worker(scene, command, signal.SIGSTOP) if struck else None
    if worker is None:
        command.kill()
        return _ended(command, Outcome("no worker to hang", False))
    workers = command.workers()
    if scene.moments.random() < 0.3:
        time.sleep(scene.moments.uniform(0, 1))
        command.send(signal.SIGTERM)
        sent = time.monotonic()
        outcome = _ended(command, Outcome("a worker hung, SIGTERM", True), 143)
        _check_told(outcome, time.monotonic() - sent)
        return _plain(outcome)
    command.send(signal.SIGKILL)
    outcome = _ended(command, Outcome("a worker hung, another driver", True), -signal.SIGKILL)
    second = scene.start(None)
    if scene.moments.random() < 0.5:
        _sometime(scene, second)
        outcome.what += ", both at work"
    else:
        second.wait()
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(signal.SIGCONT)
    _ended(second, outcome, 0, 1, 2)
    psutil.wait_procs(workers, timeout=60)
    command.kill()
    return _plain(outcome)


def _strike_worker(scene: Scene, command: Command, number: int) -> psutil.Process | None:
    workers: list[psutil.Process] = []
    if not _until(command, lambda: bool(workers.extend(command.workers()) or workers)):
        return None
    worker = scene.moments.choice(sorted(workers, key=lambda each: each.pid))
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(number)
        return worker
    return None


def address_space(scene: Scene) -> Outcome:
    """RLIMIT_AS (ulimit -v) of one process, at about what it has, from any moment on."""
    command = scene.start(None)
    struck = _sometime(scene, command)
    processes = [command.process, *command.workers()]
    process = scene.moments.choice(sorted(processes, key=lambda each: each.pid))
    more = scene.moments.choice([0, 2**20, 2**22, 2**24])
    try:
        limit = process.memory_info().vms + more
        resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
    except (psutil.NoSuchProcess, ProcessLookupError):
        struck = False
    who = "the driver" if process == command.process else "a worker"
    outcome = Outcome(f"{who} gets {more >> 20} MiB more and no address", struck)
    # Python waits for ever for a thread that has not the memory to begin, so that its user has to
    # end it; nothing here can help that.
    _until(command, lambda: False, 45)
    if command.poll() is None:
        outcome.what += ", hung until it was killed"
        command.kill()
    _ended(command, outcome)
    outcome.struck = struck and outcome.commands[-1][0] != 0
    return outcome


def cgroup_of_its_own() -> Path | None:
    """Return a new memory cgroup below the one of this process; None: it cannot be had."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            group = Path(f"/sys/fs/cgroup/memory{path}") / f"faults-{os.getpid()}"
            with suppress(OSError):
                group.mkdir(exist_ok=True)
                return group
    return None


def memory_group(scene: Scene) -> Outcome:
    """A cgroup whose memory is used up: the kernel kills one of the processes."""
    group = cgroup_of_its_own()
    assert group is not None
    unlimited = (group / "memory.limit_in_bytes").read_text()
    try:
        command = scene.start(lambda process: _enter(group) if process == "driver" else None)
        struck = _sometime(scene, command)
        used = int((group / "memory.usage_in_bytes").read_text())
        with suppress(OSError):  # it cannot be less than what is used
            limit = used + scene.moments.randint(0, 2**21)
            (group / "memory.limit_in_bytes").write_text(str(limit))
        outcome = _ended(command, Outcome("a cgroup's memory used up", struck))
        command.kill()
        (group / "memory.limit_in_bytes").write_text(unlimited)
    finally:
        _until_removed(group)
    outcome.struck = struck and outcome.commands[-1][0] != 0
    return outcome


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def _until_removed(group: Path) -> None:
    for _ in range(200):
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.02)


_DELETE = re.compile(r"delete (/\S+?)[,;.]?(?=\s|$)|(/\S+): this file was not written")


def damaged(scene: Scene) -> Outcome:
    """A file that was truncated, emptied, deleted, or has one bit flipped, while nothing ran.

    The next start either makes it anew or refuses; then what it says is to be deleted is deleted.
    """
    if not targets(scene.home, scene.output)["scores"]:
        command = scene.start(None)
        _until(command, lambda: bool(targets(scene.home, scene.output)["scores"]))
        _sometime(scene, command)
        command.kill()
    found = targets(scene.home, scene.output)
    kind = scene.moments.choice([kind for kind, paths in found.items() if paths])
    path = scene.moments.choice(found[kind])
    how = scene.moments.choice(["flipped", "flipped", "truncated", "deleted", "emptied"])
    done = damage(path, how, scene.moments)
    outcome = Outcome(f"{_short(str(path))} {done.how}", True, damaged=True)
    for _ in range(3):
        _ended(scene.start(None), outcome, 0, 1, 2)
        code, output = outcome.commands[-1]
        if code == 0:
            break
        named = [Path(one or other) for one, other in _DELETE.findall(output)]
        named = [name for name in named if name.is_relative_to(scene.home) and name.exists()]
        if not named:
            outcome.wrong.append("refused, without saying what to delete")
            break
        outcome.what += ", refused, what it named deleted"
        for name in named:
            shutil.rmtree(name) if name.is_dir() else name.unlink()
    return _plain(outcome)


KINDS: dict[str, Callable[[Scene], Outcome]] = {
    "killed": killed,
    "worker-killed": worker_killed,
    "driver-killed": driver_killed,
    "terminated": terminated,
    "enospc": _disk(errno.ENOSPC),
    "eio": _disk(errno.EIO),
    "eacces": _disk(errno.EACCES),
    "full": full,
    "read-only": read_only,
    "damaged": damaged,
    "clock": clock,
    "hanging": hanging,
    "address-space": address_space,
    "cgroup": memory_group,
}
"""By name; damage is drawn more often than the others: it is of many sorts."""
