"""Nothing that lies in the current directory is imported: not by a command, nor by its workers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import tiny_content
from tests.test_house import ROOT

STRANGERS = [
    "accelerate/__init__.py",
    "datasets/__init__.py",
    "evaluate/__init__.py",
    "ntpctp/__init__.py",
    "queue.py",
    "selectors.py",
    "torch.py",
    "yaml/__init__.py",
]


@pytest.fixture
def folder(tmp_path):
    """A directory with an experiment, and with code that writes a file when it is executed."""
    for name in STRANGERS:
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        marker = str(tmp_path / "executed")
        path.write_text(f"open({marker!r}, 'a').write({name!r} + '\\n')\nraise SystemExit(9)\n")
    evaluation = {"measures": [{"name": "accuracy", "max_items": 4}]}
    training = {"steps": 2, "batch_size": 8}
    content = tiny_content(seeds=1, training=training, evaluation=evaluation)
    (tmp_path / "folder/tiny.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "folder"


def start(folder: Path, *command: object) -> None:
    """Run a command in ``folder``; check that it succeeds and executes nothing that lies there."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    marker = folder.parent / "executed"
    assert not marker.exists(), marker.read_text()
    assert done.returncode == 0, done.stderr
    assert (folder / "out/ctp/seed-0/train/step-000002/model.safetensors").is_file()


def installed_command() -> Path:
    path = Path(sys.executable).with_name("ntpctp")
    return path if path.is_file() else Path(str(shutil.which("ntpctp")))


@pytest.mark.slow
def test_workers_of_this_machine(folder):
    start(folder, installed_command(), "run", "tiny.yaml", "--output", "out")


@pytest.mark.slow
def test_processes_that_share_a_run(folder):
    command = installed_command(), "run", "tiny.yaml", "resources.processes=2", "--output", "out"
    start(folder, *command)


@pytest.mark.slow
def test_jobs_of_slurm(folder):
    command = installed_command(), "run", "tiny.yaml", "--on", "slurm:local", "--output", "out"
    start(folder, *command)


@pytest.mark.slow
def test_workers_of_ray(folder):
    start(folder, installed_command(), "run", "tiny.yaml", "--on", "ray", "--output", "out")


@pytest.mark.slow
def test_python_with_the_module(folder):
    shutil.rmtree(folder / "ntpctp")  # which Python itself would start
    start(folder, sys.executable, "-m", "ntpctp", "run", "tiny.yaml", "--output", "out")


def test_python_with_the_module_in_a_checkout(tmp_path):
    shutil.copytree(ROOT / "ntpctp", tmp_path / "ntpctp", ignore=shutil.ignore_patterns("*.pyc"))
    look = "import os, ntpctp.__main__ as m; m._isolate(); print(os.environ.get('PYTHONPATH'))"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [sys.executable, "-c", look],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path)


def test_a_function_of_the_user_finds_its_own_modules_alone(tmp_path, monkeypatch):
    from ntpctp.data.tasks.files.function import PythonFunction

    (tmp_path / "own_data.py").write_text(
        "import own_helper\n"
        "def rows():\n"
        "    import sched\n"  # of the standard library, and not imported by anything else
        "    assert 'executed' not in vars(sched)\n"
        "    return [{'prompt': 'a', 'answer': own_helper.ANSWER}] * 4\n"
    )
    (tmp_path / "own_helper.py").write_text("ANSWER = 'b'\n")
    (tmp_path / "sched.py").write_text("executed = True\n")
    monkeypatch.chdir(tmp_path)
    for name in ("own_data", "own_helper", "sched"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    before = list(sys.path), list(sys.meta_path)
    task = PythonFunction(function="own_data:rows", test_size=1)
    assert [row["answer"] for _, row in task._rows("train")] == ["b"] * 4
    assert (sys.path, sys.meta_path) == before
