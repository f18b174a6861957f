"""scripts/bench/faults.py: faults strike, and problems are detected."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest

from ntpctp._core.files import sha256_of
from tests.test_house import ROOT

BENCH = ROOT / "scripts/bench"
KINDS = ["killed", "terminated", "enospc", "damaged", "clock", "worker-killed"]


@pytest.fixture
def files(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("fault_files")


@pytest.fixture
def output(tmp_path):
    """One checkpoint with scores, and a log."""
    checkpoint = tmp_path / "ntp/seed-0/train/step-000000"
    (checkpoint / "evaluation").mkdir(parents=True)
    listed = {}
    for name, content in (("model.safetensors", "weights"), ("trainer_state.json", "{}")):
        (checkpoint / name).write_text(content)
        listed[name] = {"bytes": len(content), "sha256": sha256_of(checkpoint / name)}
    (checkpoint / "manifest.json").write_text(json.dumps({"files": listed}))
    rows = checkpoint / "evaluation/accuracy.jsonl"
    rows.write_text("{}\n")
    scores = {"scores": [{"value": 0.5}], "rows_sha256": sha256_of(rows), "key": "k"}
    rows.with_suffix(".json").write_text(json.dumps(scores))
    (checkpoint.parent / "log.jsonl").write_text('{"step": 1, "loss": 2.0, "seconds": 3}\n')
    return tmp_path


def changed(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_lost_corrupt_and_different_files_are_found(files, output):
    expected, before = files.contents(output), files.finished(output)
    assert len(before) == 5 and files.corrupt(output, expected) == []
    stage = output / "ntp/seed-0/train"
    scores = "ntp/seed-0/train/step-000000/evaluation/accuracy.json"
    changed(output / scores, "0.5", "0.6")
    assert files.corrupt(output, expected) == [f"{scores} is not that of the undisturbed run"]
    assert files.lost(before, files.finished(output)) == [scores]
    assert files.differences(files.contents(output), expected) == [scores]
    changed(output / scores, "0.6", "0.5")
    changed(stage / "step-000000/model.safetensors", "weights", "Weights")
    found = files.corrupt(output, expected)
    assert len(found) == 2 and "model.safetensors: damaged" in found[0]
    (stage / "step-000000/model.safetensors").unlink()
    assert files.lost(before, files.finished(output)) == [
        "ntp/seed-0/train/step-000000/model.safetensors"
    ]
    changed(stage / "log.jsonl", "3", "4")  # seconds are the clock's
    (stage / "step-000000/model.safetensors").write_text("weights")
    assert files.contents(output) == expected
    changed(stage / "log.jsonl", "2.0", "2.5")
    (output / ".tmp-1-scores.parquet").touch()
    differ = files.differences(files.contents(output), expected)
    assert differ == [".tmp-1-scores.parquet", "ntp/seed-0/train/log.jsonl"]


@pytest.mark.slow
def test_six_faults(tmp_path):
    record = tmp_path / "faults.json"
    command = [sys.executable, BENCH / "faults.py", "--faults", "6", "--quick"]
    done = subprocess.run(
        [*command, "--typed-every", "1000000", "--json", record, "--kinds", *KINDS],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"6 faults in .*, (\d+) times run to the end and compared; (.*)", done.stdout)
    assert found is not None and found[2] == "all ended in the undisturbed result", done.stdout
    assert (
        int(found[1]) >= 1
    )  # at the latest the fifth fault of an experiment is followed by a comparison
    faults = json.loads(record.read_text())
    assert len(faults) == 6 and all(fault["codes"] and not fault["wrong"] for fault in faults)
