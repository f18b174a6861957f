"""The kinds of faults: how each strikes a running command, and what must hold afterwards."""

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from fault_files import damage, everything, targets
from fault_processes import Command, FailingDisk, jumping_clock
from fault_scene import Outcome, Scene, ended, moment, plain, sometime, until


def killed(scene: Scene) -> Outcome:
    """SIGKILL of all processes at once."""
    command = scene.start(None)
    struck = moment(scene, command)
    command.kill()
    return ended(command, Outcome("all processes killed", struck), -signal.SIGKILL)


def worker_killed(scene: Scene) -> Outcome:
    """SIGKILL of one worker: the others continue."""
    command = scene.start(None)
    struck = moment(scene, command) and _strike_worker(scene, command, signal.SIGKILL) is not None
    outcome = ended(command, Outcome("a worker killed", struck), 0, 1)
    outcome.struck = struck and outcome.commands[-1][0] != 0  # the worker may just have finished
    return plain(outcome)


def driver_killed(scene: Scene) -> Outcome:
    """SIGKILL of the driver; the next one starts while its workers still run."""
    command = scene.start(None)
    struck = moment(scene, command)
    workers = command.workers()
    command.send(signal.SIGKILL)
    outcome = ended(command, Outcome("the driver killed", struck), -signal.SIGKILL)
    if struck:
        # Its runs are refused while the workers of the first driver hold them.
        outcome = ended(scene.start(None), outcome, 0, 1, 2)
        psutil.wait_procs(workers, timeout=60)
    command.kill()
    return plain(outcome)


def terminated(scene: Scene) -> Outcome:
    """SIGTERM, as Slurm sends it: saves and ends within ten seconds, and says how to resume."""
    command = scene.start(None)
    struck = moment(scene, command)
    command.send(signal.SIGTERM)
    sent = time.monotonic()
    outcome = ended(command, Outcome("SIGTERM", struck), 143)
    _check_stop(outcome, time.monotonic() - sent)
    return plain(outcome)


def _check_stop(outcome: Outcome, seconds: float) -> None:
    outcome.what += f", ended in {seconds:.1f} s"
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
        ended(command, outcome)
        outcome.struck = (marks / "struck").exists()
        if outcome.struck:
            outcome.what += f" ({_short((marks / 'struck').read_text().splitlines()[0])})"
            if outcome.commands[-1][0] not in (0, 1):
                outcome.wrong.append(f"exit code {outcome.commands[-1][0]}, expected 1 or 0")
        return plain(outcome)

    disk.__doc__ = f"{errno.errorcode[code]} at a random change of a file, once or from then on."
    return disk


def _short(path: str) -> str:
    return re.sub(r"^.*/out/", "", path)


def full(scene: Scene) -> Outcome:
    """A file system that is full from a random moment on."""
    command = scene.start(None)
    struck = moment(scene, command)
    more = scene.moments.randint(0, 2**17)
    # The kernel refuses a size below the current use.
    while not _remount(scene.home, f"size={shutil.disk_usage(scene.home).used + more}"):
        more += 2**14
    try:
        outcome = ended(command, Outcome("the file system full", struck))
    finally:
        _remount(scene.home, "size=1g")
    code, output = outcome.commands[-1]
    outcome.struck = struck and "No space left" in output
    if outcome.struck and code not in (0, 1):
        outcome.wrong.append(f"exit code {code}, expected 1 or 0")
    return plain(outcome)


def read_only(scene: Scene) -> Outcome:
    """A file system that is read-only from the start."""
    outcome = Outcome("the file system read-only", _remount(scene.home, "ro"))
    try:
        ended(scene.start(None), outcome, 1)
    finally:
        _remount(scene.home, "rw")
    if outcome.struck and "--output" not in outcome.commands[-1][1]:
        outcome.wrong.append("does not name a remedy")
    return plain(outcome)


def _remount(home: Path, option: str) -> bool:
    command = ["mount", "-o", f"remount,{option}", str(home)]
    return subprocess.run(command, capture_output=True).returncode == 0


def clock(scene: Scene) -> Outcome:
    """A clock that jumps by days, forwards or back, in processes and on files."""
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
        return plain(ended(command, outcome, 0))
    if moment(scene, command):
        command.kill()
        outcome.what += ", then killed"
        return ended(command, outcome, -signal.SIGKILL)
    return plain(ended(command, outcome, 0))


def hanging(scene: Scene) -> Outcome:
    """A worker that hangs: its driver is stopped, another one starts, then the worker continues."""
    command = scene.start(None)
    struck = moment(scene, command)
    worker = _strike_worker(scene, command, signal.SIGSTOP) if struck else None
    if worker is None:
        command.kill()
        return ended(command, Outcome("no worker to hang", False))
    workers = command.workers()
    if scene.moments.random() < 0.3:
        time.sleep(scene.moments.uniform(0, 1))
        command.send(signal.SIGTERM)
        sent = time.monotonic()
        outcome = ended(command, Outcome("a worker hung, SIGTERM", True), 143)
        _check_stop(outcome, time.monotonic() - sent)
        return plain(outcome)
    command.send(signal.SIGKILL)
    outcome = ended(command, Outcome("a worker hung, another driver", True), -signal.SIGKILL)
    second = scene.start(None)
    if scene.moments.random() < 0.5:
        sometime(scene, second)
        outcome.what += ", both running"
    else:
        second.wait()
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(signal.SIGCONT)
    ended(second, outcome, 0, 1, 2)
    psutil.wait_procs(workers, timeout=60)
    command.kill()
    return plain(outcome)


def _strike_worker(scene: Scene, command: Command, number: int) -> psutil.Process | None:
    workers: list[psutil.Process] = []
    if not until(command, lambda: bool(workers.extend(command.workers()) or workers)):
        return None
    worker = scene.moments.choice(sorted(workers, key=lambda each: each.pid))
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(number)
        return worker
    return None


def address_space(scene: Scene) -> Outcome:
    """RLIMIT_AS (ulimit -v) of one process, near its current size, from a random moment on."""
    command = scene.start(None)
    struck = sometime(scene, command)
    processes = [command.process, *command.workers()]
    process = scene.moments.choice(sorted(processes, key=lambda each: each.pid))
    more = scene.moments.choice([0, 2**20, 2**22, 2**24])
    try:
        limit = process.memory_info().vms + more
        resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, limit))
    except (psutil.NoSuchProcess, ProcessLookupError):
        struck = False
    limited = "the driver" if process == command.process else "a worker"
    outcome = Outcome(f"{limited} limited to {more >> 20} MiB more of address space", struck)
    # Python waits forever for a thread that cannot start for lack of memory; only the user can end
    # such a process.
    until(command, lambda: False, 45)
    if command.poll() is None:
        outcome.what += ", hung until killed"
        command.kill()
    ended(command, outcome)
    outcome.struck = struck and outcome.commands[-1][0] != 0
    return outcome


def new_cgroup() -> Path | None:
    """Return a new memory cgroup below that of this process; None if that is not allowed."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            group = Path(f"/sys/fs/cgroup/memory{path}") / f"faults-{os.getpid()}"
            with suppress(OSError):
                group.mkdir(exist_ok=True)
                return group
    return None


def memory_group(scene: Scene) -> Outcome:
    """A cgroup whose memory is exhausted: the kernel kills one of the processes."""
    group = new_cgroup()
    assert group is not None
    unlimited = (group / "memory.limit_in_bytes").read_text()
    try:
        command = scene.start(lambda process: _enter(group) if process == "driver" else None)
        struck = sometime(scene, command)
        used = int((group / "memory.usage_in_bytes").read_text())
        with suppress(OSError):  # the limit cannot be below the current use
            limit = used + scene.moments.randint(0, 2**21)
            (group / "memory.limit_in_bytes").write_text(str(limit))
        outcome = ended(command, Outcome("a cgroup's memory exhausted", struck))
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


_DELETE = re.compile(r"[Dd]elete (/\S+?)[,;.]?(?=\s|$)|(/\S+): this file was not written")


def damaged(scene: Scene) -> Outcome:
    """A file truncated, emptied, deleted, or with one bit flipped, while no command runs.

    The next start either rebuilds the file or refuses; then the files that its message names are
    deleted.
    """
    if not targets(scene.home, scene.output)["scores"]:
        command = scene.start(None)
        until(command, lambda: bool(targets(scene.home, scene.output)["scores"]))
        sometime(scene, command)
        command.kill()
    found = targets(scene.home, scene.output)
    kind = scene.moments.choice([kind for kind, paths in found.items() if paths])
    path = scene.moments.choice(found[kind])
    how = scene.moments.choice(["flipped", "flipped", "truncated", "deleted", "emptied"])
    done = damage(path, how, scene.moments)
    outcome = Outcome(f"{_short(str(path))} {done.how}", True, damaged=True)
    for _ in range(3):
        ended(scene.start(None), outcome, 0, 1, 2)
        code, output = outcome.commands[-1]
        if code == 0:
            break
        named = [Path(one or other) for one, other in _DELETE.findall(output)]
        named = [name for name in named if name.is_relative_to(scene.home) and name.exists()]
        if not named:
            outcome.wrong.append("refused, without saying what to delete")
            break
        outcome.what += ", refused, named files deleted"
        for name in named:
            shutil.rmtree(name) if name.is_dir() else name.unlink()
    return plain(outcome)


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
"""Kind -> fault."""
