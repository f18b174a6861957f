"""What all commands share: where they print, and how they end when something is wrong."""

import errno
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import format_exception
from types import TracebackType
from typing import Annotated, TextIO

import typer
from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderableType,
    RenderHook,
    RenderResult,
)
from rich.segment import Segment

from ntpctp._core.errors import InputError, lacks_memory
from ntpctp._core.redaction import scrubbed
from ntpctp._core.runtime import go_offline
from ntpctp._core.signals import Stopped

PIPED_WIDTH = 160
"""Columns where there is no terminal to ask, and COLUMNS does not say: tables lose nothing."""


_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it, line ends and tabs aside."""


@dataclass
class _Shown:
    """What is printed, where texts of the data give no commands to the terminal."""

    printed: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.printed, options):
            if segment.control is None:
                segment = Segment(_COMMANDS.sub("\ufffd", segment.text), segment.style)
            yield segment


class _ShowAll(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(renderable) for renderable in renderables]


def _printer(stream: TextIO, stderr: bool) -> Console:
    known = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
    # A path or an address may hold what rich takes for the name of a picture (":abc:").
    printer = Console(stderr=stderr, width=None if known else PIPED_WIDTH, emoji=False)
    printer.push_render_hook(_ShowAll())
    return printer


console = _printer(sys.stdout, stderr=False)
errors = _printer(sys.stderr, stderr=True)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_CANNOT_WRITE = (
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)
OFFLINE_HELP = (
    "allow no network: nothing is fetched from the hub or sent anywhere, but to the cluster that "
    "--on names"
)
OVERRIDES_HELP = "fields to change, as dotted.key=value (training.steps=500 seeds=5)"


def _go_offline(asked: bool) -> bool:
    """Act as soon as the option is read: libraries look at the environment when they come in."""
    if asked:
        go_offline()
    return asked


Offline = Annotated[bool, typer.Option("--offline", help=OFFLINE_HELP, callback=_go_offline)]
"""The option of all commands that may load what lies on the hub."""


def warn(text: str) -> None:
    """Print what the user ought to know, and need not act on."""
    said = scrubbed(f"warning: {text}")
    errors.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_fault(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print the traceback of a fault of this program, as Python does, but for secrets."""
    print(scrubbed("".join(format_exception(kind, error, traceback))), end="", file=sys.stderr)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print what the user can mend in plain words; 2 for bad input, 1 for disk and memory.

    143 and 130 where the process was told to stop, as shells have it.
    """
    try:
        yield
    except Stopped as stopped:
        errors.print(f"\n{stopped}", markup=False, highlight=False)
        raise SystemExit(128 + signal.SIGTERM) from None
    except Exception as error:
        if not (lacks_memory(error) or isinstance(error, InputError | OSError)):
            raise
        errors.print("[bold red]error:[/] ", end="")
        if lacks_memory(error):
            said = scrubbed(f"out of memory: {error}".rstrip(": "))
            errors.print(said, markup=False, highlight=False, soft_wrap=True)
            errors.print("what is finished is kept, the same command carries on")
            raise SystemExit(1) from None
        errors.print(scrubbed(str(error)), markup=False, highlight=False, soft_wrap=True)
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
            errors.print("choose an --output that can be written; what is finished is kept")
        elif isinstance(error, OSError) and error.errno in _NO_SPACE:
            errors.print("free some space; what is finished is kept, the same command carries on")
        raise SystemExit(2 if isinstance(error, InputError) else 1) from None
    except KeyboardInterrupt:
        errors.print("\nstopped; what is finished is kept, the same command carries on")
        raise SystemExit(130) from None
