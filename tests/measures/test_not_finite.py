"""NaN, infinity, overflow in a checkpoint: every score is a null that says why, in valid JSON."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ntpctp._core.layout import RunId, checkpoint_directory, stage_directory
from ntpctp.analysis.scores import read_scores
from ntpctp.config import experiment_of
from ntpctp.measures import MEASURES
from ntpctp.measures.context import EvaluationContext
from ntpctp.objectives import CTP
from ntpctp.runner.evaluate import ResultsLocation, measure_into
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import execute
from tests.conftest import tiny_content

FEW = {"max_items": 8}
DRAWN = {**FEW, "draws": 2}
OPTIONS = {
    "accuracy": {"modes": ["choices", "greedy", "teacher_forced"]},
    "robustness": {**DRAWN, "strengths": [0.0, 1.0]},
    "weight_noise": {**DRAWN, "strengths": [0.0, 0.1]},
    "adversarial": {**FEW, "strengths": [0.0, 1.0], "steps": 2},
    "edits": DRAWN,
    "contrast": DRAWN,
    "flatness": FEW,
    "sharpness": {**DRAWN, "ascent_steps": 2, "trace_products": 6},
    "landscape": {**FEW, "points": 5, "plane_points": 3, "probes": 2, "lanczos_steps": 4},
    "preconditioned": FEW,
}


def nan(name, weight):
    if name.endswith("ln_f.weight"):
        weight.view(-1)[0] = math.nan


def infinite(name, weight):
    if name.endswith("wte.weight"):
        weight.view(-1)[0] = math.inf


def overflowing(name, weight):
    if ".mlp." in name:
        weight.mul_(1e25)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    task = {"name": "addition", "digits": 2, "train_size": 60, "test_size": 20}
    evaluation = {"every": None, "measures": ["accuracy"]}
    experiment = experiment_of(tiny_content(task=task, evaluation=evaluation), "tiny")
    data, output, run = prepare(experiment), tmp_path_factory.mktemp("trained"), RunId("ctp", 0)
    execute(experiment, data, run, output, lambda event: None)
    return data, checkpoint_directory(stage_directory(output, run), 8)


def measured(trained, directory, name):
    data, _ = trained
    measure = MEASURES[name].model_validate({"name": name, **OPTIONS[name]})
    context = EvaluationContext(
        source=directory,
        tokenizer=data.tokenizer,
        splits=data.splits,
        evaluation_splits=data.evaluation_splits,
        objective=CTP(),
        task=data.task,
        max_length=data.context,
    )
    return measure_into(ResultsLocation(directory / "results", "x", "y", None), context, [measure])


def test_all_measures_are_tried():
    assert OPTIONS.keys() == MEASURES.keys()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("damage", [nan, infinite, overflowing])
@pytest.mark.slow
def test_every_score_is_a_null_with_a_reason(trained, tmp_path, name, damage):
    shutil.copytree(trained[1], tmp_path, dirs_exist_ok=True)
    whole = measured(trained, tmp_path, name)
    shutil.rmtree(tmp_path / "results")
    weights = load_file(tmp_path / "model.safetensors")
    for key, weight in weights.items():
        damage(key, weight)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    scores = measured(trained, tmp_path, name)
    # The same scores as the checkpoint had before it was damaged: none is missing.
    assert [(s.score, s.split, s.strength, s.stratum) for s in scores] == [
        (s.score, s.split, s.strength, s.stratum) for s in whole
    ]
    for score in scores:
        assert score.value is None and score.standard_error is None and score.error_bound is None
        assert "finite" in score.reason
    stored = (tmp_path / f"results/{name}.json").read_text()
    json.loads(stored, parse_constant=pytest.fail)
    assert any(score.value is not None for score in whole)


@pytest.mark.parametrize("name", OPTIONS)
def test_weights_of_zero_are_no_error(trained, tmp_path, name):
    """They are legal: all tokens are alike, all derivatives small."""
    shutil.copytree(trained[1], tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    zeros = {key: torch.zeros_like(weight) for key, weight in weights.items()}
    save_file(zeros, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for score in measured(trained, tmp_path, name):
        assert score.reason if score.value is None else math.isfinite(score.value)


@pytest.mark.slow
def test_an_arm_that_overflows_at_its_last_update_is_compared_and_reported(
    ntpctp, tiny_file, tmp_path
):
    """The loss of the only step is finite, the weights after it are of no use."""
    wild = {"steps": 1, "learning_rate": 1e30, "max_grad_norm": None}
    arms = {"tame": {"objective": "ctp"}, "wild": {"objective": "ctp", "training": wild}}
    evaluation = {"every": None, "measures": ["accuracy", {"name": "flatness", "max_items": 16}]}
    path = tiny_file(arms=arms, evaluation=evaluation)
    outcome = ntpctp("run", path, "--output", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    scores = read_scores(tmp_path / "out")
    last = scores[(scores["arm"] == "wild") & (scores["step"] == 1)]
    assert len(last) and last["value"].isna().all()
    assert last["reason"].str.contains("finite").all()
    assert scores[scores["arm"] == "tame"]["value"].notna().any()
    comparison = json.loads((tmp_path / "out/comparison.json").read_text(), parse_constant=print)
    assert "NaN" not in (tmp_path / "out/comparison.json").read_text()
    assert comparison
    assert "not finite" in (tmp_path / "out/report.html").read_text()
