"""Nothing goes over a network unless something of the hub is named, and nothing with --offline."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml

from ntpctp._core import runtime
from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId
from ntpctp.config.resources import Resources
from ntpctp.runner import worker
from ntpctp.runner.engines import accelerate_launch
from ntpctp.runner.location import location_of
from ntpctp.runner.worker import RunRequest
from ntpctp.training.trackers import check_trackers
from tests.conftest import tiny_content
from tests.models.external_checkpoints import save_foreign

NAMES = ("NTPCTP_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE",
         "WANDB_MODE")  # fmt: skip
TASK = {"name": "addition", "digits": 1, "train_size": 40, "test_size": 10}
# Every process of Python reads this first. A connection to anywhere is written down and refused,
# sockets of this machine's own file system aside.
GUARD = """
import socket

def _refuse(what):
    with open({log!r}, "a") as log:
        log.write(f"{{what}}\\n")
    raise OSError(f"no network here: {{what}}")

class _Guarded(socket.socket):
    def connect(self, address):
        return super().connect(address) if self.family == socket.AF_UNIX else _refuse(address)

    def connect_ex(self, address):
        return super().connect_ex(address) if self.family == socket.AF_UNIX else _refuse(address)

    def sendto(self, *arguments):
        return _refuse(arguments[-1])

socket.socket = _Guarded
socket.getaddrinfo = lambda host, *rest, **options: _refuse(host)
socket.gethostbyname = _refuse
"""
COMMANDS = """
import sys
from ntpctp.cli import main

for arguments in {commands!r}:
    sys.argv = ["ntpctp", *arguments]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.fixture
def attempts(monkeypatch) -> list[object]:
    """Connections that were tried; all are refused. And libraries that were told nothing."""
    tried: list[object] = []
    really = socket.socket.connect

    def connect(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:  # by which processes of this machine talk
            refuse(address)
        really(self, address)

    def refuse(*address: object, **options: object) -> None:
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in NAMES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    if "datasets.config" in sys.modules:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            monkeypatch.setattr(sys.modules["datasets.config"], name, False)
    return tried


def guarded(tmp_path: Path, code: str) -> tuple[subprocess.CompletedProcess, str]:
    """Run code in a process that cannot connect, nor can those it starts; and what they tried."""
    log = tmp_path / "tried"
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD.format(log=str(log)))
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    environment |= {"PYTHONPATH": str(tmp_path / "guard"), "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done, log.read_text() if log.exists() else ""


@pytest.mark.slow
def test_local_files_need_no_network_even_if_it_is_allowed(tmp_path):
    foreign = save_foreign(tmp_path / "foreign", TASK)
    experiment = tiny_content(
        task=TASK, tokenizer=str(foreign), model={"checkpoint": str(foreign)}, seeds=1,
        training={"steps": 2, "batch_size": 4, "learning_rate": 0.01},
        evaluation={"every": 2, "measures": ["accuracy"]},
    )  # fmt: skip
    suite = {"name": "s", "tasks": {"a": TASK}, "measures": ["accuracy"]}
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(experiment))
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(suite))
    commands = [
        ["audit", "e.yaml"],
        ["run", "e.yaml", "--output", "out"],
        ["evaluate", "foreign", "--suite", "s.yaml"],
        ["report", "out"],
        ["status", "out"],
    ]
    done, tried = guarded(tmp_path, COMMANDS.format(commands=commands))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()
    assert tried == ""


def test_the_guard_of_that_test_is_noticed_by_every_process(tmp_path):
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    asking = "import urllib.request; urllib.request.urlopen('https://there.example')"
    _, tried = guarded(tmp_path, code.replace("sys.argv[1]", repr(asking)))
    assert tried == "there.example\n"


HUB = {
    "tokenizer": {"tokenizer": "someone/model"},
    "checkpoint": {"model": {"checkpoint": "someone/model"}},
    "reference": {"arms": {"s": {"objective": {
        "name": "selective", "reference": "someone/model", "fraction": 0.5}}}},
    "dataset": {"task": {"name": "dataset", "path": "someone/data"}, "tokenizer": "characters"},
}  # fmt: skip


@pytest.mark.parametrize("named", HUB)
def test_offline_a_name_of_the_hub_is_an_error_that_says_so(
    ntpctp, tiny_file, tmp_path, attempts, named
):
    command = "run" if named == "reference" else "audit"
    options = ["--output", tmp_path / "out"] if named == "reference" else []
    outcome = ntpctp(command, tiny_file(**HUB[named]), *options, "--offline")
    assert attempts == []
    assert outcome.code != 0
    assert "downloads are disabled (--offline" in outcome.err


def test_offline_a_checkpoint_of_the_hub_cannot_be_measured(ntpctp, tmp_path, attempts):
    outcome = ntpctp("evaluate", "someone/model", "--output", tmp_path, "--offline")
    assert outcome.code == 2 and "downloads are disabled (--offline" in outcome.err
    assert attempts == []


def test_without_offline_the_hub_is_asked(ntpctp, tiny_file, attempts, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    outcome = ntpctp("audit", tiny_file(**HUB["tokenizer"]))
    assert outcome.code == 2 and "--offline" not in outcome.err
    assert attempts != []


@pytest.mark.parametrize("url", ["s3://bucket/runs", "sftp://me:hunter2@host/runs", "http://a/b"])
def test_offline_a_store_beyond_this_machine_is_refused(ntpctp, tiny_file, attempts, url):
    outcome = ntpctp("run", tiny_file(), "--output", url, "--offline")
    assert outcome.code == 2 and "--offline forbids it" in outcome.err
    assert "hunter2" not in outcome.err
    assert attempts == []


def test_offline_a_store_of_this_machine_is_fine(tmp_path, attempts):
    runtime.go_offline()
    assert location_of(f"file://{tmp_path}/store").store is not None


def test_offline_trackers_do_not_send(monkeypatch, attempts):
    monkeypatch.setattr("ntpctp.training.trackers.get_available_trackers", lambda: [])
    runtime.go_offline()
    assert os.environ["WANDB_MODE"] == "offline"

    class Tracker:
        value = "mlflow"

    monkeypatch.setattr("ntpctp.training.trackers.get_available_trackers", lambda: [Tracker])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://there")
    with pytest.raises(InputError, match=r"mlflow sends .*--offline allows no network"):
        check_trackers(["mlflow"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///here")
    check_trackers(["mlflow"])


def test_what_is_imported_already_is_told_too(attempts):
    assert not huggingface_hub.is_offline_mode()
    runtime.go_offline()
    assert huggingface_hub.is_offline_mode() and runtime.is_cut_off()


def test_workers_are_told_wherever_they_are(monkeypatch, attempts):
    def stop(content: str, output: Path) -> None:
        raise InputError("here")

    monkeypatch.setattr(worker, "_prepared", stop)
    for offline in (False, True):
        task = RunRequest({}, RunId("ntp", 0), "out", "", offline=offline)
        with pytest.raises(InputError, match="here"):
            worker.execute_in_process(task, print)
        assert runtime.is_cut_off() is offline
    # accelerate launch gives its processes the environment of its own.
    environment = accelerate_launch._environment(Resources())
    assert environment["NTPCTP_OFFLINE"] == environment["HF_HUB_OFFLINE"] == "1"


@pytest.mark.parametrize("command", ["run", "train", "audit", "evaluate", "calibrate", "tasks"])
def test_each_command_that_may_load_from_the_hub_has_the_option(ntpctp, command):
    assert "--offline" in ntpctp(command, "--help").out


@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize(
    "file", ["https://there/rows.jsonl", "hf://datasets/a/b/c.jsonl", "../rows.jsonl",
             "/etc/passwd", "zip://x.jsonl::https://there/rows.zip", "~/rows.jsonl"],
)  # fmt: skip
def test_a_directory_of_data_cannot_send_for_more(
    ntpctp, tiny_file, tmp_path, attempts, name, file
):
    data = tmp_path / "data"
    data.mkdir()
    text = yaml.safe_dump(
        {
            "configs": [
                {"config_name": "default", "data_files": [{"split": "train", "path": [file]}]}
            ]
        }
    )
    (data / name).write_text(f"---\n{text}---\nhello\n" if name == "README.md" else text)
    task = {"name": "dataset", "path": str(data)}
    outcome = ntpctp("audit", tiny_file(task=task, tokenizer="characters"))
    assert outcome.code == 2 and "not in the directory" in outcome.err
    assert attempts == []
