"""Printers of the commands, and how a command ends after an error."""

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
from typing import TextIO

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
from ntpctp._core.signals import Stopped

PIPED_WIDTH = 160
"""Columns of output without a terminal and without COLUMNS: enough for every table."""

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal obeys instead of showing, except line ends and tabs."""


@dataclass
class _Harmless:
    """A renderable without control characters, which texts in the data may contain."""

    printed: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.printed, options):
            if segment.control is None:
                segment = Segment(_CONTROL_CHARACTERS.sub("\ufffd", segment.text), segment.style)
            yield segment


class _Sanitise(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Harmless(renderable) for renderable in renderables]


def _printer(stream: TextIO, stderr: bool) -> Console:
    has_width = stream.isatty() or os.environ.get("COLUMNS", "").isdigit()
    # emoji=False: a path may contain the name of an emoji (":abc:").
    printer = Console(stderr=stderr, width=None if has_width else PIPED_WIDTH, emoji=False)
    printer.push_render_hook(_Sanitise())
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
_RESUME = "run the same command again to resume"


def warn(text: str) -> None:
    """Print a warning."""
    text = scrubbed(f"warning: {text}")
    errors.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_fault(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print the traceback of an unexpected error as Python does, with secrets masked."""
    print(scrubbed("".join(format_exception(kind, error, traceback))), end="", file=sys.stderr)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print errors that the user can fix without a traceback, and exit.

    Exit codes: 2 for bad input; 1 for the disk and memory; 143 and 130, as shells have it, for a
    process that was terminated or interrupted.
    """
    try:
        yield
    except Stopped as stopped:
        errors.print(f"\n{stopped}", markup=False, highlight=False)
        raise SystemExit(128 + signal.SIGTERM) from None
    except Exception as error:
        if not (lacks_memory(error) or isinstance(error, InputError | OSError)):
            raise
        _print_error(error)
        bad_input = isinstance(error, InputError) and not lacks_memory(error)
        raise SystemExit(2 if bad_input else 1) from None
    except KeyboardInterrupt:
        errors.print(f"\ninterrupted; finished work is kept, {_RESUME}")
        raise SystemExit(128 + signal.SIGINT) from None


def _print_error(error: Exception) -> None:
    """Print an error and, for disk and memory, what to do about it."""
    text, advice = str(error), None
    if lacks_memory(error):
        text, advice = f"out of memory: {error}".rstrip(": "), f"finished work is kept, {_RESUME}"
    elif isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        advice = "choose an --output that can be written; finished work is kept"
    elif isinstance(error, OSError) and error.errno in _NO_SPACE:
        advice = f"free some disk space; finished work is kept, {_RESUME}"
    errors.print("[bold red]error:[/] ", end="")
    errors.print(scrubbed(text), markup=False, highlight=False, soft_wrap=True)
    if advice:
        errors.print(advice)
