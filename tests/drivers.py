"""Commands in processes of their own, without the ten CPU seconds of their imports.

A ``Program`` is forked from the fork server of the test process, which imports ``LOADED`` once. It
is a real process: it receives signals, can be killed and has an exit code. The driver of an
experiment gets its workers from a fork server that is its child, as a typed command does; this
server is forked too. ``tests/bad_input/test_bad_input_table.py`` and
``tests/runner/test_determinism.py`` start the installed command itself.
"""

import atexit
import importlib.util
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing import forkserver, util
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

LOADED = [
    "ntpctp.runner.worker",
    "ntpctp.runner.experiment",
    "ntpctp.runner.stages",
    "ntpctp.analysis.pipeline",
    "ntpctp.report.html",
    "ntpctp.report.terminal.progress",
    "ntpctp.report.terminal.plans",
    "ntpctp.report.terminal.comparisons",
    "scipy.stats",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.gpt2.configuration_gpt2",
    "transformers.generation.utils",
    "tests.loaded",
]
"""Modules that the fork server imports. Not ``ntpctp.cli``: its import looks at the terminal."""


def load_once() -> None:
    """Let the fork server of this process import ``LOADED``, whatever starts it.

    A process has one fork server for all pools; later requests to import more have no effect.
    """
    missing = [name for name in LOADED if importlib.util.find_spec(name) is None]
    assert not missing, f"no such modules: {missing}"  # the server would skip them
    forkserver.set_forkserver_preload(LOADED)
    forkserver.set_forkserver_preload = lambda modules: None


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Program:
    """A function that runs in a process of its own, with the members of ``Popen`` that tests need.

    Args:
        main: a function of a module, to be called with ``arguments``; its return is exit code 0.
        arguments: turned into text, as on a command line.
        cwd: the working directory; None: that of this process.
        environment: variables beside those of this process.
    """

    def __init__(
        self,
        main: Callable[..., None],
        *arguments: object,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        context = multiprocessing.get_context("forkserver")
        pipes = [context.Pipe(duplex=False) for _ in range(2)]
        texts = [str(argument) for argument in arguments]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400", **(environment or {})}
        sending = [pipe[1] for pipe in pipes]
        self._process = context.Process(
            target=_become, args=(main, texts, str(cwd or Path.cwd()), variables, *sending)
        )
        self._process.start()
        atexit.register(self.kill)  # after a failed test; multiprocessing would wait for its end
        for pipe in sending:
            pipe.close()
        # Threads read while the program runs: a full pipe would block it.
        self._printed = [_Reader(receiving) for receiving, _ in pipes]

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative after a signal; None while the program runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the program and the processes it started; return their output and errors."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired("the program", timeout)
        out, err = (reader.text(timeout) for reader in self._printed)
        return out, err

    def outcome(self, timeout: float = 300) -> Outcome:
        """Wait as ``communicate`` does; return the exit code as well."""
        out, err = self.communicate(timeout)
        assert self.returncode is not None
        return Outcome(self.returncode, out, err)


def start_driver(*arguments: object, **options: Any) -> Program:
    """Start ``ntpctp`` with ``arguments``; ``options`` are those of ``Program``."""
    return Program(_ntpctp, *arguments, **options)


def command(*arguments: object, **options: Any) -> Outcome:
    """Run ``ntpctp`` to its end."""
    return start_driver(*arguments, **options).outcome()


def run_module(name: str, *arguments: object, **options: Any) -> Outcome:
    """Run ``python -m name`` to its end, as for launchers; what it starts are new interpreters."""
    return Program(_module, name, *arguments, **options).outcome()


def _ntpctp(*arguments: str) -> None:
    from ntpctp import cli

    sys.argv = ["ntpctp", *arguments]
    cli.main()


def _module(name: str, *arguments: str) -> None:
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


class _Reader(threading.Thread):
    """Reads a pipe until its last writer has ended."""

    def __init__(self, pipe: Connection):
        super().__init__(daemon=True)
        self._pipe = pipe
        self._chunks: list[bytes] = []
        self.start()

    def run(self) -> None:
        with self._pipe:
            while chunk := os.read(self._pipe.fileno(), 65536):
                self._chunks.append(chunk)

    def text(self, timeout: float) -> str:
        self.join(timeout)
        assert not self.is_alive(), "a process that the command started holds its output open"
        return b"".join(self._chunks).decode()


def _become(
    main: Callable[..., None],
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    out: Connection,
    err: Connection,
) -> None:
    """Turn this forked process into the program, as if a shell had started it."""
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for number, pipe in ((1, out), (2, err)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.modules["__main__"] = ModuleType("__main__")  # workers would import pytest again
    multiprocessing.process._parent_process = None
    # A test run in the background of a shell ignores Ctrl-C, and the forked process would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    load_once()
    util.spawnv_passfds = _fork_server
    try:
        main(*arguments)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise SystemExit(1) from None
    finally:
        atexit._run_exitfuncs()


_spawn = util.spawnv_passfds


def _fork_server(path: bytes, arguments: list[str], descriptors: list[int]) -> int:
    """Start a fork server by a fork instead of a new interpreter; other programs as usual."""
    if "multiprocessing.forkserver" not in arguments[-1]:
        return _spawn(path, arguments, descriptors)
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # As in a new interpreter: default signal handlers, no file descriptors but those passed.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        start = 3
        for descriptor in [*sorted(descriptors), os.sysconf("SC_OPEN_MAX")]:
            os.closerange(start, descriptor)
            start = descriptor + 1
        exec(arguments[-1], {})
        code = 0
    except SystemExit:
        code = 0
    finally:
        os._exit(code)
