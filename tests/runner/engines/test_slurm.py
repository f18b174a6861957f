"""Slurm through submitit, on a Slurm that one machine pretends to be: see ``fake_slurm``."""

import json
import os
import signal
import time

import pytest
import yaml

from ntpctp._core.errors import InputError
from ntpctp.config import experiment_of, load_experiment
from ntpctp.config.resources import Resources
from ntpctp.runner.engines import Local, Slurm
from ntpctp.runner.engines.slurm import parameters
from ntpctp.runner.experiment import run_experiment
from tests import drivers
from tests.conftest import tiny_content
from tests.runner.engines import fake_slurm
from tests.runner.run_contents import contents

SITE = {"partition": "short", "account": "lab", "minutes": 90, "at_once": 2}
CONTENT = tiny_content(
    seeds=1,
    training={"steps": 300, "batch_size": 8, "learning_rate": 1e-2, "log_every": 20},
    evaluation={"every": 100, "measures": ["accuracy"]},
    resources={"cpus": 1, "memory_gib": 4, "slurm": {**SITE, "more": {"exclude": "node07"}}},
)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The directory of its state."""
    state = tmp_path / "state"
    state.mkdir()
    fake_slurm.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(state))
    return state


def start_driver(tmp_path, output):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONTENT, sort_keys=False))  # NTP is the first job
    return drivers.start_driver("run", path, "--output", output, "--on", "slurm")


def until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of an experiment that nothing disturbs."""
    output = tmp_path_factory.mktemp("undisturbed")
    local = {"engine": Local(1), "on_event": lambda e: None}
    assert not run_experiment(experiment_of(CONTENT, "tiny"), output, **local)
    return contents(output)


@pytest.mark.slow
def test_preempted_jobs_come_back_and_a_new_driver_finds_those_in_the_queue(
    slurm, tmp_path, undisturbed
):
    output = tmp_path / "out"
    driver = start_driver(tmp_path, output)
    log = output / "ntp/seed-0/train/log.jsonl"
    until(lambda: log.is_file() and log.read_text().count("\n") >= 2)
    driver.kill()  # as a login node does with long processes
    driver.communicate()
    job = int((slurm / "100_0.pid").read_text())
    told = time.monotonic()
    os.kill(job, signal.SIGTERM)  # as Slurm preempts it
    until(lambda: (slurm / "100_0.requeued").exists())
    assert time.monotonic() - told < 10
    driver = start_driver(tmp_path, output)
    code, _, errors = driver.outcome()
    assert code == 0, errors
    assert (slurm / "count").read_text() == "100"  # nothing was submitted twice
    assert (slurm / "100_0.requeued").read_text() == "1"
    assert contents(output) == undisturbed
    batch = (slurm / "100_0.sh").read_text()
    flags = {line for line in batch.splitlines() if line.startswith("#SBATCH")}
    expected = {"array=0-1%2", "partition=short", "account=lab", "time=90", "cpus-per-task=1"}
    expected |= {"mem=4GB", "signal=USR2@90", "requeue", "exclude=node07", "nodes=1"}
    assert {f"#SBATCH --{flag}" for flag in expected} <= flags


@pytest.mark.slow
def test_a_cancelled_job_does_not_come_back(slurm, tmp_path, monkeypatch, undisturbed):
    import submitit

    monkeypatch.setattr(submitit.SlurmJob.watcher, "_delay_s", 1)
    experiment = experiment_of(CONTENT, "tiny")
    output = tmp_path / "out"
    engine = Slurm(output / ".slurm", poll_seconds=0.2)

    def cancel(event):
        if event.kind == "training" and event.run.arm == "ctp" and event.done == 40:
            fake_slurm.scancel("100_1")

    failures = run_experiment(experiment, output, engine=engine, on_event=cancel)
    assert list(failures) == ["ctp, seed 0"]
    assert failures["ctp, seed 0"].of_machine
    assert not (slurm / "100_1.requeued").exists()
    record = json.loads((output / "ctp/seed-0/failure.json").read_text())
    assert "stopped on request at step" in record["message"]
    # The same command carries on with it, unasked.
    again = {"engine": engine, "on_event": lambda e: None}
    assert not run_experiment(experiment, output, **again)
    assert contents(output) == undisturbed


def test_what_submitit_is_told():
    asked = Resources.model_validate(
        {"cpus": 8, "gpus": 4, "slurm": {"setup": ["module load cuda"], "timeouts": 7}}
    )
    told = parameters(asked)
    assert told["gpus_per_node"] == 4 and told["cpus_per_task"] == 8
    assert told["tasks_per_node"] == 1  # accelerate launch starts the four processes
    assert told["slurm_setup"] == ["module load cuda", "export PYTHONSAFEPATH=1"]
    assert "mem_gb" not in told and "slurm_partition" not in told


def test_no_slurm_is_an_error_that_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = Slurm(tmp_path / ".slurm")
    experiment = load_experiment_of(tmp_path)
    with pytest.raises(InputError, match=r"--on slurm: .*--on slurm:local"):
        run_experiment(experiment, tmp_path / "out", engine=engine, on_event=lambda e: None)


def load_experiment_of(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONTENT))
    return load_experiment(path)
