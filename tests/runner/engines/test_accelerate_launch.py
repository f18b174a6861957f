"""A run of several processes: accelerate launch inside of what a job was given."""

import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ntpctp.config import experiment_of
from ntpctp.config.resources import Resources
from ntpctp.runner.engines import Local
from ntpctp.runner.engines.accelerate_launch import command
from ntpctp.runner.experiment import run_experiment
from tests.conftest import tiny_content

CONTENT = tiny_content(
    seeds=1,
    arms={"ntp": {"objective": "ntp"}},
    model={"family": "gpt2", "layers": 1, "width": 16, "heads": 2, "dtype": "float64"},
    evaluation={"every": 4, "measures": ["accuracy"]},
)


def run(content, output):
    told = []
    failures = run_experiment(
        experiment_of(content, "tiny"), output, engine=Local(1), on_event=told.append
    )
    return told, failures


@pytest.mark.slow
def test_two_processes_share_the_batches_of_a_run(tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    run(CONTENT, alone)
    told, failures = run({**CONTENT, "resources": {"processes": 2, "cpus": 2}}, shared)
    assert not failures
    assert [(e.kind, e.done) for e in told if e.kind in ("training", "done")] == [
        ("training", 2),
        ("training", 4),
        ("training", 6),
        ("training", 8),
        ("done", 0),
    ]
    stage = Path("ntp/seed-0/train")
    for step in (4, 8):
        one, two = (
            load_file(output / stage / f"step-{step:06d}/model.safetensors")
            for output in (alone, shared)
        )
        for name, tensor in one.items():  # sums over processes are taken in another order
            assert (tensor - two[name]).abs().max() < 1e-12
            # They are not equal in all digits: two processes were at work.
    assert any((one[name] != two[name]).any() for name in one)
    assert (shared / stage / "step-000008/evaluation/accuracy.json").is_file()


@pytest.mark.slow
def test_another_number_of_processes_than_asked_for_is_a_failure(tmp_path, monkeypatch):
    config = tmp_path / "one.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nuse_cpu: true\n"
        "num_machines: 1\nnum_processes: 1\nmixed_precision: 'no'\nmachine_rank: 0\n"
        "gpu_ids: null\nmain_training_function: main\n"
    )
    resources = {"processes": 2, "cpus": 2, "accelerate": str(config)}
    _, failures = run({**CONTENT, "resources": resources}, tmp_path / "out")
    (failure,) = failures.values()
    assert "expected 2, accelerate launch started 1" in failure.message


@pytest.mark.slow
def test_what_cannot_be_started_is_a_failure_with_what_was_printed(tmp_path):
    config = tmp_path / "bad.yaml"
    config.write_text("not_a_field: 1\n")
    resources = {"processes": 2, "accelerate": str(config)}
    _, failures = run({**CONTENT, "resources": resources}, tmp_path / "out")
    (failure,) = failures.values()
    assert "accelerate launch exited early with code 1" in failure.message
    assert "`distributed_type` must be specified" in failure.traceback


@pytest.mark.parametrize("gpus", [0, 4])
def test_the_command(tmp_path, gpus):
    asked = Resources(gpus=gpus, processes=None if gpus else 4)
    found = command("ntpctp.runner.worker_main", tmp_path / "job.json", asked, None)
    assert found[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    text = " ".join(found)
    assert "--multi_gpu" in text and "--num_processes 4" in text and "--num_machines 1" in text
    assert text.endswith(f"--module ntpctp.runner.worker_main {tmp_path / 'job.json'}")
