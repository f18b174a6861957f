"""Commands for fault injection, forked from a process that has imported the library.

The import takes seconds, a fork milliseconds. One difference to a command typed in a shell: the
pool forks its workers from the driver instead of a server. The workers therefore close descriptors
that they would not inherit from a server: the driver's locks and the reading ends of its pipes.
"""

import builtins
import io
import multiprocessing
import multiprocessing.context
import multiprocessing.util
import os
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import safetensors.torch

from ntpctp import cli

Setup = Callable[[str], None]
"""Called first in each process of a command, with its name: "driver" or "worker 1"."""


@dataclass
class Command:
    """``ntpctp run`` in a separate process, the leader of a process group."""

    process: psutil.Process
    log: Path  # receives stdout and stderr
    code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the command runs."""
        if self.code is None:
            pid, status = os.waitpid(self.process.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float = 120.0) -> int:
        """Return the exit code.

        Raises:
            TimeoutError: if the command does not end; all of its processes are killed.
        """
        end = time.monotonic() + seconds
        while self.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise TimeoutError(f"still running after {seconds:.0f} s")
            time.sleep(0.005)
        assert self.code is not None
        return self.code

    def workers(self) -> list[psutil.Process]:
        """Return the processes that train and measure."""
        try:
            below = self.process.children(recursive=True)
            servers = [p for p in below if _is_server(p)]
            return [p for p in below if p not in servers]
        except psutil.NoSuchProcess:
            return []

    def send(self, number: int) -> None:
        """Send a signal to the driver alone, if it is running."""
        if self.poll() is None:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill all of its processes, and wait for the driver."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        while self.poll() is None:
            time.sleep(0.001)

    def output(self) -> str:
        """Return stdout and stderr."""
        return self.log.read_text("utf-8", errors="replace")


def _is_server(process: psutil.Process) -> bool:
    """Return whether a child of a typed command is a server, not a worker."""
    line = " ".join(process.cmdline())
    if "resource_tracker" in line:
        return True
    parent = process.parent()
    return "forkserver" in line and (
        parent is None or "forkserver" not in " ".join(parent.cmdline())
    )


def start(
    arguments: list[str], log: Path, setup: Setup | None = None, *, typed: bool = False
) -> Command:
    """Start ``ntpctp`` with ``arguments``.

    Args:
        arguments: of the command line.
        log: receives stdout and stderr.
        setup: see ``Setup``.
        typed: start a new interpreter, as a shell does; ``setup`` is then not called.
    """
    log.touch()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Command(psutil.Process(pid), log)
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        _redirect(log)
        if typed:
            os.execv(sys.executable, [sys.executable, "-m", "ntpctp", *arguments])
        sys.argv = ["ntpctp", *arguments]
        _fork_workers(setup)
        if setup is not None:
            setup("driver")
        cli.main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            multiprocessing.util._exit_function()  # ends workers; os._exit skips it
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _redirect(log: Path) -> None:
    with log.open("wb") as file, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _fork_workers(setup: Setup | None) -> None:
    """Let the pool of this process fork its workers from this process."""
    started = 0

    class Process(multiprocessing.context.ForkProcess):
        def __init__(self, *arguments: Any, **options: Any):
            nonlocal started
            super().__init__(*arguments, **options)
            started += 1
            self.number = started

        def run(self) -> None:
            _close_inherited()
            if setup is not None:
                setup(f"worker {self.number}")
            super().run()

    context = multiprocessing.get_context("fork")
    context.Process = Process
    multiprocessing.get_context = lambda method=None: context


def _close_inherited() -> None:
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        try:
            target, mode = os.readlink(f"/proc/self/fd/{name}"), os.fstat(descriptor).st_mode
        except OSError:
            continue
        pipe = stat.S_ISFIFO(mode) and _reads_only(descriptor)
        if descriptor > 2 and (pipe or target.endswith("/.lock")):
            os.close(descriptor)


def _reads_only(descriptor: int) -> bool:
    flags = Path(f"/proc/self/fdinfo/{descriptor}").read_text().split("flags:")[1].split()[0]
    return int(flags, 8) & os.O_ACCMODE == os.O_RDONLY


@dataclass
class FailingDisk:
    """Makes calls that change files below ``root`` fail, in one process.

    A write fails halfway, as on a full disk.

    Attributes:
        root: directory whose files are affected.
        process: name of the affected process: "driver", "worker 1".
        code: errno of the raised error.
        at: number of the call that fails; None: no call fails, calls are only counted.
        lasting: whether all later calls fail too.
        marks: directory for a file "struck" when the first call fails, and for counts.
    """

    root: Path
    process: str
    code: int
    at: int | None
    lasting: bool
    marks: Path
    calls: int = 0

    def __call__(self, process: str) -> None:
        """Install in the current process."""
        self.calls, self._here = 0, process
        if self.at is None:
            multiprocessing.util.Finalize(None, self._count, exitpriority=0)
        if process != "driver":
            return  # inherited from the driver by fork
        for name in ("open", "mkdir", "replace", "rename", "unlink", "fsync", "rmdir", "link"):
            setattr(os, name, self._failing(getattr(os, name)))
        self._open = io.open
        io.open = builtins.open = self._opened
        self._serialise = safetensors.torch.serialize_file
        safetensors.torch.serialize_file = self._serialised

    def _count(self) -> None:
        with self._open(self.marks / self._here, "w") as file:
            file.write(str(self.calls))

    def _strikes(self, target: Any, writes: bool = True) -> bool:
        if not writes or (self.at is not None and self._here != self.process):
            return False
        if isinstance(target, int):
            try:
                target = os.readlink(f"/proc/self/fd/{target}")
            except OSError:
                return False
        try:
            inside = Path(os.fsdecode(target)).is_relative_to(self.root)
        except TypeError:
            return False
        if not inside:
            return False
        self.calls += 1
        if self.at is None or self.calls < self.at or (self.calls > self.at and not self.lasting):
            return False
        with self._open(self.marks / "struck", "a") as file:
            file.write(f"{target}\n")
        return True

    def _error(self, target: Any) -> OSError:
        name = None if isinstance(target, int) else os.fsdecode(target)
        return OSError(self.code, os.strerror(self.code), name)

    def _failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(target: Any, *arguments: Any, **options: Any) -> Any:
            writes = call.__name__ != "open" or bool(
                (arguments[0] if arguments else options.get("flags", 0))
                & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if self._strikes(target, writes):
                raise self._error(target)
            return call(target, *arguments, **options)

        return failing

    def _opened(self, target: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        writes = any(letter in mode for letter in "wax+")
        if self._strikes(target, writes):
            raise self._error(target)
        file = self._open(target, mode, *arguments, **options)
        if writes and not isinstance(target, int):
            write = file.write

            def half(data: Any) -> int:
                if self._strikes(target):
                    write(data[: len(data) // 2])
                    file.flush()
                    raise self._error(target)
                return int(write(data))

            with suppress(AttributeError):  # unbuffered files: only opening can fail
                file.write = half
        return file

    def _serialised(self, tensors: Any, target: Any, *arguments: Any, **options: Any) -> None:
        self._serialise(tensors, target, *arguments, **options)
        if self._strikes(target):
            with self._open(target, "r+b") as file:
                file.truncate(Path(target).stat().st_size // 2)
            raise safetensors.SafetensorError(f"Error while serializing: {self._error(target)}")


def jumping_clock(days: float, after: int) -> Setup:
    """Return a setup that shifts each process's clock by ``days`` after ``after`` reads."""

    def setup(process: str) -> None:
        real, reads = time.time, 0

        def now() -> float:
            nonlocal reads
            reads += 1
            return real() + (86400 * days if reads > after else 0)

        time.time = now

    return setup
