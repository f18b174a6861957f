"""Secrets in the environment reach no file, no report and no terminal."""

import base64
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import yaml

from ntpctp._core.redaction import scrubbed
from ntpctp.cli.console import print_fault
from ntpctp.runner.engines import Failure
from tests.conftest import tiny_content
from tests.drivers import command

SECRETS = {
    "HF_TOKEN": "hf_aQ7uVbXcYdZe",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENG",
    "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEBYa",
    "WANDB_API_KEY": "0123abcd4567ef89",
    "MY_DB_PASSWORD": "correct-horse-battery",
    "HTTPS_PROXY": "http://me:hunter2hunter2@proxy.example:3128",
    "HF_ENDPOINT": "https://u:s3@mirror.example",
}
VALUES = [*list(SECRETS.values())[:5], "hunter2hunter2"]
# A worker, not the driver, meets this: its error holds all that it could find.
WORK = """
import multiprocessing, os

def examples(count):
    if multiprocessing.parent_process() is not None:
        told = " ".join(f"{name}={value}" for name, value in os.environ.items())
        raise RuntimeError(f"the request failed: {told}")
    for n in range(count):
        yield {"prompt": f"{n}+0=", "answer": str(n)}
"""


def leaks(text: str | bytes) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    # A page keeps its figures and long tables packed.
    for packed in re.findall(rb'id="packed">([A-Za-z0-9+/=]+)<', data):
        data += zlib.decompress(base64.b64decode(packed))
    return [name for name, secret in SECRETS.items() if secret.encode() in data] + [
        value for value in VALUES if value.encode() in data
    ]


@pytest.mark.slow
def test_no_byte_of_a_run_that_works_or_fails_holds_a_secret(tmp_path):
    (tmp_path / "own_task.py").write_text(WORK)
    good = tiny_content(seeds=1, evaluation={"every": 4, "measures": ["accuracy"]})
    task = {"name": "python", "function": "own_task:examples", "arguments": {"count": 30}}
    bad = {**good, "name": "bad", "task": task, "tokenizer": "characters"}
    for name, content in (("good", good), ("bad", bad)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    environment = {**SECRETS, "PYTHONPATH": str(tmp_path)}
    done = command(
        "run", "good.yaml", "--output", "out/good", cwd=tmp_path, environment=environment
    )
    assert done.code == 0, done.err
    assert leaks(done.out) == leaks(done.err) == []
    # The installed command: libraries look at the environment when they are imported, too.
    done = subprocess.run(
        [Path(sys.executable).with_name("ntpctp"), "run", "bad.yaml", "--output", "out/bad"],
        cwd=tmp_path, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert leaks(done.stdout) == leaks(done.stderr) == []
    assert "the request failed" in done.stderr and "HF_TOKEN=***" in done.stderr
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {"report.html", "failure.json", "provenance.json", "log.jsonl"} <= {
        path.name for path in files
    }
    assert "the request failed" in (tmp_path / "out/bad/ntp/seed-0/failure.json").read_text()
    found = {path.relative_to(tmp_path).as_posix(): leaks(path.read_bytes()) for path in files}
    assert {path: leak for path, leak in found.items() if leak} == {}


@pytest.fixture
def environment(monkeypatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_secrets_and_passwords_in_urls_are_starred(environment):
    text = " ".join(SECRETS.values())
    assert leaks(text) != []
    said = scrubbed(text)
    assert leaks(said) == []
    assert "http://me:***@proxy.example:3128" in said
    # Short values and what is not named like a secret stay: they stand in half of all words.
    assert scrubbed("the tokens of a key") == "the tokens of a key"


@pytest.mark.parametrize("name", SECRETS)
def test_a_failure_keeps_no_secret(environment, name):
    told = f"{name}={SECRETS[name]}"
    failure = Failure(told, f"Traceback\n{told}")
    assert leaks(failure.message) == leaks(failure.traceback or "") == []
    assert failure.message.startswith(f"{name}=")


def test_an_error_and_a_fault_print_no_secret(environment, ntpctp, tmp_path, capsys):
    outcome = ntpctp("audit", tmp_path / SECRETS["HF_TOKEN"])
    assert outcome.code == 2 and "***" in outcome.err and leaks(outcome.err) == []
    try:
        try:
            raise KeyError(SECRETS["WANDB_API_KEY"])
        except KeyError as error:
            raise RuntimeError(SECRETS["HTTPS_PROXY"]) from error
    except RuntimeError as error:
        print_fault(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err
    assert leaks(printed) == []
    assert "KeyError: '***'" in printed and "RuntimeError: http://me:***@proxy" in printed


def test_the_command_prints_faults_that_way(monkeypatch, ntpctp):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    ntpctp("measures")
    assert sys.excepthook is print_fault


def test_what_is_recorded_of_the_machine_names_no_one(tmp_path):
    from ntpctp._core.provenance import provenance

    text = str(provenance())
    assert str(Path.home()) not in text and os.uname().nodename not in text
    assert not any(value in text for value in os.environ.values() if len(value) >= 8)
