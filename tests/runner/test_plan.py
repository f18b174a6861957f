"""What is planned against what a run then takes."""

import json

import pytest

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId, stage_directory
from ntpctp.models.flops import training_flops
from ntpctp.runner.plan import matmul_rate, plan
from ntpctp.runner.prepare import initial_model, prepare
from ntpctp.runner.run import accelerator_for, train_run
from tests.config.test_stages import CONTENT

MODEL = {"family": "gpt2", "layers": 2, "width": 64, "heads": 4}


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "sgd"}])
@pytest.mark.parametrize("arm", ["ntp", "ctp"])
def test_a_run_takes_what_was_planned(tiny, tmp_path, arm, optimizer):
    training = {"steps": 6, "batch_size": 8, "learning_rate": 1e-3, **optimizer}
    experiment, run = tiny(model=MODEL, training=training), RunId(arm, 0)
    data = prepare(experiment)
    planned = plan(experiment, data)[arm]
    train_run(experiment, data, run, tmp_path, accelerator_for(experiment, run, tmp_path))
    stage = stage_directory(tmp_path, run)
    last = json.loads((stage / "log.jsonl").read_text().splitlines()[-1])
    assert planned.steps == last["step"] == 6
    assert planned.tokens == last["tokens"] == 6 * 8 * 7
    assert planned.supervised_tokens == last["supervised_tokens"]
    checkpoints = list(stage.glob("step-*"))
    assert planned.checkpoints == len(checkpoints) == 3
    on_disk = sum(f.stat().st_size for c in checkpoints for f in c.glob("*.safetensors"))
    # The files' own headers are the rest.
    assert planned.disk_bytes < on_disk < 1.04 * planned.disk_bytes
    model = initial_model(experiment.arms[arm], data, 0)
    assert planned.parameters == sum(p.numel() for p in model.parameters())
    seen = 6 if arm == "ntp" else 3
    assert planned.flops == pytest.approx(48 * training_flops(model, [7], [seen])[0], rel=1e-12)


def test_memory_grows_with_the_micro_batch_and_shrinks_with_checkpointing(tiny):
    def memory(**training):
        common = {"steps": 6, "batch_size": 8, "learning_rate": 1e-3}
        experiment = tiny(model=MODEL, training=common | training)
        return plan(experiment, prepare(experiment))["ntp"]

    one, two, four = (memory(micro_batch_size=size).memory_bytes for size in (1, 2, 4))
    fixed = 16 * memory().parameters  # weights, gradients and two moments in float32
    assert four - two == 2 * (two - one) and 2 * one - two == fixed
    assert memory(gradient_checkpointing=True).memory_bytes < memory().memory_bytes
    plain, momentum = (memory(optimizer="sgd", momentum=value).memory_bytes for value in (0.0, 0.9))
    assert momentum - plain == 4 * memory().parameters


def test_what_a_forward_pass_keeps_of_one_layer_by_hand(tiny):
    model = {"family": "llama", "layers": 1, "width": 64, "heads": 1}
    experiment = tiny(model=model, training={"steps": 1, "batch_size": 1})
    planned = plan(experiment, prepare(experiment))["ctp"]
    kept = planned.memory_bytes - 16 * planned.parameters
    states = 7 * 64 * 4  # one state of every token
    # At the least: inputs of two norms and of the attention, queries, keys, values, attention's
    # output, and the three states of width 4 x 64 inside the gated layer.
    assert 7 * states + 3 * 4 * states < kept < 40 * states


def test_a_selective_arm_needs_no_reference_to_be_planned(tiny):
    arms = {"rho": {"objective": {"name": "selective", "reference": "missing", "fraction": 0.5}}}
    experiment = tiny(arms=arms)
    planned = plan(experiment, prepare(experiment))["rho"]
    assert planned.supervised_tokens == 8 * 8 * 3


def test_the_rate_is_a_rate():
    assert 1e8 < matmul_rate(256, 2) < 1e14


def test_the_command_trains_and_writes_nothing(tiny_file, tmp_path, ntpctp, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tiny_file(training={"budget": {"epochs": 2.0}, "batch_size": 8})
    outcome = ntpctp("run", path, "--plan", "--workers", 1, "--flops-per-second", 1e6)
    lines = [line.replace("\u2502", " ").split() for line in outcome.out.splitlines()]
    assert ["steps", "15", "15", "60"] in lines and "all 4 runs" in outcome.out
    assert "if one run at a time at 40% of the 1e+06 FLOP/s of the device" in (outcome.out)
    assert outcome.code == 0 and list(tmp_path.iterdir()) == [path]


def test_the_command_counts_the_arms_of_every_stage(tmp_path, ntpctp, monkeypatch):
    import yaml

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump(CONTENT, sort_keys=False))
    out = ntpctp("run", path, "--plan").out
    first, second = out.split("stage finetune")
    # Two arms, then four, of two seeds.
    assert "all 4 runs" in first and "all 8 runs" in second
    assert list(tmp_path.iterdir()) == [path]


def test_processes_share_a_batch(tiny):
    training = {"steps": 6, "batch_size": 8}
    experiment = tiny(model=MODEL, training=training)
    data = prepare(experiment)
    one, four = (plan(experiment, data, processes)["ntp"] for processes in (1, 4))
    fixed = 16 * one.parameters  # weights, gradients and two moments, float32
    assert four.memory_bytes - fixed == (one.memory_bytes - fixed) / 4
    assert (one.flops, one.disk_bytes) == (four.flops, four.disk_bytes)
    with pytest.raises(InputError, match=r"'ntp': training.batch_size 8 does not divide over 3"):
        plan(experiment, data, 3)
