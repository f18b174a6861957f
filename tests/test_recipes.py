"""What lies under recipes/ and scripts/ for launches, run or tried as a user would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from ntpctp.experiment import load_experiment
from ntpctp.launch import runs_in, train_one
from ntpctp.models import load
from tests.conftest import tiny_content
from tests.published_tokenizer import gpt2_tokenizer
from tests.test_house import ROOT
from tests.test_sharding import launch_environment
from tests.test_stages import changed

CONFIGS = sorted((ROOT / "recipes/accelerate").glob("*.yaml"))
CPU = ROOT / "recipes/accelerate/cpu.yaml"
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))


def shell(*command, **environment):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    there = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment}
    command = ["bash", *map(str, command)]
    return subprocess.run(command, cwd=ROOT, env=there, capture_output=True, text=True)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_takes_the_configuration(path):
    found = load_config_from_file(str(path))
    # Weights do not depend on who launches: the experiment says the precision.
    assert found.mixed_precision == "no"
    assert path.name in path.read_text()
    environment = launch_environment(path.name)
    assert environment.get("ACCELERATE_USE_FSDP") == ("true" if found.fsdp_config else None)


def test_all_configurations_are_there():
    assert [path.stem for path in CONFIGS] == ["cpu", "ddp", "fsdp", "zero2"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shell_syntax(path):
    assert os.access(path, os.X_OK)
    assert shell("-n", path).returncode == 0


def staged_file(tmp_path):
    arms = {"both": {"pretrain": {"objective": "ntp"}, "finetune": {"objective": "ctp"}}}
    path = tmp_path / "two stages.yaml"
    path.write_text(yaml.safe_dump(changed(grid=None, arms=arms, seeds=1), sort_keys=False))
    return path


def test_pretrain_then_finetune(tmp_path):
    out = tmp_path / "out put"
    done = shell("scripts/pretrain_then_finetune.sh", staged_file(tmp_path), CPU, out)
    assert done.returncode == 0, done.stderr
    logs = [out / "pretrain/both/seed-0", out / "finetune/both/seed-0"]
    assert all((log / "train/log.jsonl").is_file() for log in logs)
    # The last command measured what the launches before it had trained.
    assert "training" not in done.stdout.split("both, seed 0: step 4/4")[-1]
    assert (out / "finetune/report.html").is_file()


def test_a_task_of_a_slurm_array(tmp_path):
    content = tiny_content(name="slurm-tiny", evaluation={"measures": ["accuracy"]})
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    environment = {"ACCELERATE_USE_CPU": "true"}
    done = shell("scripts/slurm_array.sh", path, SLURM_ARRAY_TASK_ID="9", **environment)
    assert done.returncode == 2 and "no run number 9" in done.stderr
    assert shell("scripts/slurm_array.sh", path).returncode != 0  # no array
    try:
        done = shell("scripts/slurm_array.sh", path, SLURM_ARRAY_TASK_ID="2", **environment)
        assert done.returncode == 0, done.stderr
        stage = ROOT / "runs/slurm-tiny/ctp/seed-0/train"
        assert json.loads(stage.joinpath("log.jsonl").read_text().splitlines()[-1])["step"] == 8
    finally:
        subprocess.run(["rm", "-rf", str(ROOT / "runs/slurm-tiny")], check=True)


def test_listed_runs_are_in_order_and_can_be_chosen(tmp_path, ntpctp):
    path = staged_file(tmp_path)
    assert [(s, str(r)) for s, r in runs_in(path)] == [
        ("pretrain", "both, seed 0"),
        ("finetune", "both, seed 0"),
    ]
    assert ntpctp("list", path, "--stage", "finetune")[1] == (
        "--stage finetune --arm both --seed 0\n"
    )


@pytest.mark.parametrize(
    "stage, message",
    [(None, r"has stages \(pretrain, finetune\); say which"), ("fintune", "finetune")],
)
def test_a_stage_has_to_be_named(tmp_path, stage, message):
    from ntpctp.errors import InputError

    with pytest.raises(InputError, match=message):
        train_one(staged_file(tmp_path), [], "ntp", 0, tmp_path / "out", stage)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["prontoqa", "prosqa"])
def test_first_steps_of_the_paper_scale_with_a_narrow_model(tmp_path, name):
    tokenizer = tmp_path / "tokenizer"
    gpt2_tokenizer(tokenizer, "{{ messages[0].content }}")
    path = ROOT / f"recipes/paper/{name}.yaml"
    narrow = ["model.layers=2", "model.width=16", "model.heads=2", "training.mixed_precision=no"]
    small = ["task.train_size=60", "task.test_size=8", "training.steps=3", "seeds=1"]
    full = load_experiment(path, [f"tokenizer={tokenizer}"])
    assert (full.model.width, full.model.layers, full.model.context) == (768, 12, 1024)
    assert full.seeds == [0, 1, 2, 3, 4]
    overrides = [f"tokenizer={tokenizer}", *narrow, *small, "training.batch_size=20"]
    train_one(path, overrides, "ctp", 0, tmp_path / "out")
    last = load(tmp_path / "out/ctp/seed-0/train/step-000003")
    assert last.config.vocab_size == 50257
