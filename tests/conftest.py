"""What all tests share: one thread, no network, tiny models and data, one fork server."""

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
# evaluate copies the code of metrics here before it imports it: a directory of this process alone.
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="ntpctp-modules-")
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import atexit
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ntpctp import cli
from ntpctp._core.runtime import quiet_libraries
from ntpctp.cli.console import console, errors
from ntpctp.config import Experiment, experiment_of
from tests.drivers import Outcome, command, load_once

atexit.register(shutil.rmtree, os.environ["HF_MODULES_CACHE"], ignore_errors=True)
quiet_libraries()
load_once()
torch.set_num_threads(1)

collect_ignore_glob = ["*/conftest.py"]  # these are all named alike, and have no doctests

TINY: dict[str, Any] = {
    "name": "tiny",
    "task": {"name": "addition", "digits": 1, "train_size": 60, "test_size": 20},
    "model": {"family": "gpt2", "layers": 1, "width": 16, "heads": 2},
    "training": {"steps": 8, "batch_size": 8, "learning_rate": 1e-2, "log_every": 2},
    "arms": {"ntp": {"objective": "ntp"}, "ctp": {"objective": "ctp"}},
    "seeds": 2,
    "evaluation": {
        "every": 4,
        "measures": [
            "accuracy",
            {"name": "robustness", "strengths": [0.0, 1.0], "draws": 2, "max_items": 10},
            {"name": "flatness", "max_items": 16},
        ],
    },
}


def tiny_content(**changes: Any) -> dict[str, Any]:
    """Return ``TINY`` with top-level fields replaced, or left out where the value is None."""
    content = {**TINY, **changes}
    return {key: value for key, value in content.items() if value is not None}


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a whole experiment as slow; put the files with slow tests first.

    A slow file started last delays the end of the run.
    """
    for item in items:
        if "finished" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def tiny() -> Callable[..., Experiment]:
    return lambda **changes: experiment_of(tiny_content(**changes), "tiny")


@pytest.fixture
def tiny_file(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(tiny_content(**changes), sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A directory with ``TINY`` as tiny.yaml, run by a driver to out/; and what the driver printed.

    Shared by all tests of a process: copy it before you change it.
    """
    directory = tmp_path_factory.mktemp("finished")
    (directory / "tiny.yaml").write_text(yaml.safe_dump(TINY, sort_keys=False))
    outcome = command("run", directory / "tiny.yaml", "--output", directory / "out")
    assert outcome.code == 0, outcome.err
    return directory, outcome.out


@pytest.fixture
def ntpctp(monkeypatch, capsys) -> Callable[..., Outcome]:
    """Run a command in this process; return its exit code and what it printed."""

    def run(*arguments: object) -> Outcome:
        # Wide enough that no message is wrapped.
        for printer in (console, errors):
            monkeypatch.setattr(printer, "width", 400)
        monkeypatch.setattr(sys, "argv", ["ntpctp", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), printed.out, printed.err)

    return run
