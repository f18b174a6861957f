"""What lies under recipes/ and scripts/ for launches, run or tried as a user would."""

import json
import math
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from ntpctp._core.yaml_loader import read_yaml
from ntpctp.config import cells, load_experiment, set_field
from ntpctp.config.experiment_file import runs_in
from ntpctp.config.stages import load_stages
from ntpctp.config.sweep import load_sweep
from ntpctp.models.build import load_model
from ntpctp.runner.train_one import train_one
from tests.config.test_stages import changed
from tests.conftest import tiny_content
from tests.data.published_tokenizer import gpt2_tokenizer
from tests.models.test_sharding import launch_environment
from tests.recipes.loaded_commands import LoadedCommands
from tests.test_house import ROOT

CONFIGS = sorted((ROOT / "recipes/accelerate").glob("*.yaml"))
CPU = ROOT / "recipes/accelerate/cpu.yaml"
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))


@pytest.fixture(scope="module")
def shell():
    """Run a shell script with ``ntpctp`` and ``accelerate`` on its PATH."""
    with (
        tempfile.TemporaryDirectory() as directory,  # a short path: that of a socket is limited
        LoadedCommands(Path(directory) / "bin") as commands,
    ):

        def run(*command, **environment):
            path = f"{commands.directory}{os.pathsep}{os.environ['PATH']}"
            variables = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment}
            command = ["bash", *map(str, command)]
            return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)

        yield run


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
def test_shell_syntax(path, shell):
    assert os.access(path, os.X_OK)
    assert shell("-n", path).returncode == 0


def staged_file(tmp_path):
    arms = {"both": {"pretrain": {"objective": "ntp"}, "finetune": {"objective": "ctp"}}}
    path = tmp_path / "two stages.yaml"
    path.write_text(yaml.safe_dump(changed(grid=None, arms=arms, seeds=1), sort_keys=False))
    return path


@pytest.mark.slow
def test_pretrain_then_finetune(tmp_path, shell):
    out = tmp_path / "out put"
    done = shell("scripts/pretrain_then_finetune.sh", staged_file(tmp_path), CPU, out)
    assert done.returncode == 0, done.stderr
    logs = [out / "pretrain/both/seed-0", out / "finetune/both/seed-0"]
    assert all((log / "train/log.jsonl").is_file() for log in logs)
    # The last command measured what the launches before it had trained.
    assert "training" not in done.stdout.split("both, seed 0: step 4/4")[-1]
    assert (out / "finetune/report.html").is_file()


@pytest.mark.slow
def test_a_task_of_a_slurm_array(tmp_path, shell):
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
    [(None, r"has stages\. Choose one with --stage: pretrain, finetune"), ("fintune", "finetune")],
)
def test_a_stage_has_to_be_named(tmp_path, stage, message):
    from ntpctp._core.errors import InputError

    with pytest.raises(InputError, match=message):
        train_one(staged_file(tmp_path), [], "ntp", 0, tmp_path / "out", stage)
    assert not (tmp_path / "out").exists()


PAPER = sorted((ROOT / "recipes/paper").glob("*.yaml"))
NARROW = ["model.layers=2", "model.width=16", "model.heads=2"]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """GPT-2's own tokenizer."""
    directory = tmp_path_factory.mktemp("published")
    gpt2_tokenizer(directory, "{{ messages[0].content }}")
    return directory


def of_one_cell(path, directory):
    """A file with the last cell of a map; another file as it is."""
    content, _ = read_yaml(path)
    if "map" not in content:
        return path
    for field, value in cells(content.pop("map"), str(path), block="map")[-1].settings.items():
        set_field(content, field, value)
    file = directory / path.name
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def first_steps(path, tokenizer):
    """Overrides that leave of a recipe for GPUs its first 20 steps, of a narrow model."""
    content, _ = read_yaml(path)
    blocks = [f"stages.{name}." for name in content["stages"]] if "stages" in content else [""]
    own = [
        f"{block}{field}"
        for block in blocks
        for field in (
            "task.train_size=70",
            "task.test_size=8",
            "training.steps=20",
            "training.micro_batch_size=7",
            "training.batch_size=14",
            "training.mixed_precision=no",
        )
    ]
    tokenized = [f"tokenizer={tokenizer}"] if "tokenizer" in content else []
    return [*tokenized, *NARROW, *own, "seeds=1"]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
@pytest.mark.slow
def test_first_steps_of_the_paper_scale_with_a_narrow_model(tmp_path, path, published):
    path = of_one_cell(path, tmp_path)
    overrides = first_steps(path, published)
    # Not an arm with more budget than the others, nor a stage that needs another's checkpoint.
    longer = ("ctp-2x", "ctp-4x")
    runs = [(stage, run) for stage, run in runs_in(path, overrides) if run.arm not in longer]
    stage, run = runs[0] if runs[0][0] else runs[-1]
    train_one(path, overrides, run.arm, run.seed, tmp_path / "out", stage)
    (last,) = tmp_path.glob(f"out/**/{run.arm}/seed-0/train/step-*20*")
    assert load_model(last).config.n_embd == 16
    log = [json.loads(line) for line in (last.parent / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] >= 20 and all(math.isfinite(row["loss"]) for row in log)


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_paper_scale_is_that_of_gpt2(path, published):
    content, _ = read_yaml(path)
    overrides = [f"tokenizer={published}"] if "tokenizer" in content else []
    if found := load_sweep(path, overrides):
        experiments = [
            experiment
            for cell, experiment in found.experiments.items()
            if found.levels[cell]["model.width"] == "124M"
        ]
        assert len(experiments) == 12 and len(found.experiments) == 24
    elif stages := load_stages(path, overrides):
        experiments = list(stages.from_scratch().values())
    else:
        experiments = [load_experiment(path, overrides)]
    for experiment in experiments:
        assert experiment.seeds == [0, 1, 2, 3, 4]
        for arm in experiment.arms.values():
            assert (arm.model.width, arm.model.layers, arm.model.heads) == (768, 12, 12)
