"""The same experiment again: in one process, and in another with other orders of sets and dicts."""

import os
import subprocess
import sys

import pytest

from ntpctp._core.layout import RunId
from ntpctp.config import load_experiment
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import execute
from tests.measures.test_not_finite import OPTIONS
from tests.runner.run_contents import contents

CHANGES = {
    "arms": {"noisy": {"objective": {"name": "noisy", "rate": 0.3}}, "ntp": {"objective": "ntp"}},
    "task": {"name": "addition", "digits": 2, "train_size": 60, "test_size": 20},
    "seeds": 1,
    "evaluation": {
        "every": None,
        "measures": [{"name": name, **options} for name, options in OPTIONS.items()],
    },
}


def executed(file, output):
    experiment = load_experiment(file, [])
    data = prepare(experiment)
    for arm in experiment.arms:
        execute(experiment, data, RunId(arm, 0), output, lambda event: None)
    return contents(output)


@pytest.fixture
def file(tiny_file):
    return tiny_file(**CHANGES)


@pytest.mark.slow
def test_weights_rows_and_scores_are_the_same_again(file, tmp_path):
    first = executed(file, tmp_path / "first")
    names = {os.path.basename(path) for path in first}
    assert {f"{measure}.jsonl" for measure in OPTIONS} <= names and "model.safetensors" in names
    assert executed(file, tmp_path / "second") == first
    other = str(1 + int(os.environ.get("PYTHONHASHSEED", "random").replace("random", "0")))
    done = subprocess.run(
        [sys.executable, "-m", "ntpctp", "run", str(file), "--output", str(tmp_path / "third")],
        env={**os.environ, "PYTHONHASHSEED": other, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "third") == first
