"""The command line in this process: what is printed, and the exit code."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from ntpctp import cli


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def ntpctp(monkeypatch, capsys) -> Callable[..., Outcome]:
    def run(*arguments: object) -> Outcome:
        # Wide enough that no message is wrapped.
        monkeypatch.setenv("COLUMNS", "400")
        monkeypatch.setattr(sys, "argv", ["ntpctp", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), printed.out, printed.err)

    return run
