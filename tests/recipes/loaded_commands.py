"""``ntpctp`` and ``accelerate`` for shell scripts, run as programs of ``tests.drivers``.

A script finds two small executables of these names on its PATH. They send their arguments to this
process, which forks the command from a server that has the libraries loaded, and print what it
printed. What the commands start in turn, as ``accelerate launch`` does, are new interpreters.
"""

import json
import socket
import sys
import threading
import traceback
from pathlib import Path

from tests.drivers import Outcome, command, run_module

EXECUTABLE = """#!{python} -ES
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = [os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd(), dict(os.environ)]
    server.sendall(json.dumps(request).encode() + b"\\n")
    code, out, err = json.load(server.makefile())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


class LoadedCommands:
    """A context in which ``directory``, to be put on the PATH, holds the executables."""

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(directory / "socket"))
        self._server.listen()
        for name in ("ntpctp", "accelerate"):
            address = str(directory / "socket")
            (directory / name).write_text(EXECUTABLE.format(python=sys.executable, address=address))
            (directory / name).chmod(0o755)

    def __enter__(self) -> "LoadedCommands":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed
                return
            with connection, connection.makefile("rw") as file:
                try:
                    outcome = _run(*json.loads(file.readline()))
                except Exception:  # or the script would wait for an answer
                    outcome = Outcome(70, "", traceback.format_exc())
                json.dump(outcome, file)


def _run(name: str, arguments: list[str], cwd: str, environment: dict[str, str]) -> Outcome:
    options = {"cwd": Path(cwd), "environment": environment}
    if name == "ntpctp":
        return command(*arguments, **options)
    return run_module("accelerate.commands.accelerate_cli", *arguments, **options)
