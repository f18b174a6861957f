"""The tables of bad input themselves, and the real program on one of them."""

import os
import subprocess
import sys

from tests.bad_input import (
    test_bad_checkpoints,
    test_bad_commands,
    test_bad_data,
    test_bad_experiment_files,
    test_bad_experiments,
    test_bad_runs,
)
from tests.bad_input.refusal import listing

TABLES = (
    test_bad_checkpoints,
    test_bad_commands,
    test_bad_data,
    test_bad_experiment_files,
    test_bad_experiments,
    test_bad_runs,
)


def test_there_are_many_and_each_is_another():
    cases = [case for table in TABLES for case in table.CASES.values()]
    assert len(cases) >= 400
    assert len({case.key for case in cases}) == len(cases)
    assert all(case.messages and case.code for case in cases)


def test_the_program_itself(tmp_path):
    case = test_bad_experiments.CASES["several errors at once"]
    (tmp_path / "experiment.yaml").write_text(case.files["experiment.yaml"])
    before = listing(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "ntpctp", *(a.replace("DIR/", "") for a in case.arguments)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"},
    )
    assert done.returncode == case.code
    assert done.stdout == ""
    assert all(message in done.stderr for message in case.messages), done.stderr
    assert "Traceback" not in done.stderr
    assert listing(tmp_path) == before
