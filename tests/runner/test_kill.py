"""SIGKILL at any moment: listed checkpoints are whole, the end is that of an undisturbed run."""

import multiprocessing
import random
import time

import pytest
from safetensors.torch import load_file

from ntpctp._core.files import TEMPORARY, clear_temporaries
from ntpctp._core.runtime import quiet_libraries
from ntpctp.models import checkpoints
from tests.runner.run_contents import untimed_log
from tests.training.test_training import assert_same, run

STEPS = {"steps": 120, "steps_saved": range(1, 120), "log_every": 1}


def train_in_child(directory):
    quiet_libraries()
    run(directory, **STEPS)


@pytest.mark.slow
def test_killed_again_and_again(tmp_path):
    context = multiprocessing.get_context("forkserver")
    moments, killed, in_a_save = random.Random(0), 0, 0
    directory, begun = tmp_path / "killed", time.monotonic()
    while True:
        process = context.Process(target=train_in_child, args=(directory,))
        process.start()
        # Half of the kills fall at any time, half while a checkpoint is being written.
        # Later and later: on a busy machine seconds pass before training starts.
        wait, aimed = moments.uniform(0.1, 0.6) * 1.1**killed, killed % 2
        process.join(wait)
        while process.is_alive() and aimed and not list(directory.glob(f"{TEMPORARY}*")):
            time.sleep(0.0002)
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        killed += 1
        in_a_save += bool(list(directory.glob(f"{TEMPORARY}*")))
        clear_temporaries(directory)  # as every run begins
        for path in checkpoints.list_checkpoints(directory):
            checkpoints.verify(path)
        assert time.monotonic() - begun < 600, "training makes no progress"
    print(f"{killed} kills, {in_a_save} while a checkpoint was written")
    assert killed >= 3 and in_a_save >= 1
    whole = tmp_path / "whole"
    assert_same(run(whole, **STEPS), run(directory, **STEPS))
    last = "step-000120/optimizer.safetensors"
    assert_same(load_file(whole / last), load_file(directory / last))
    assert untimed_log(whole) == untimed_log(directory)
    assert [line["step"] for line in untimed_log(directory)] == list(range(1, 121))
