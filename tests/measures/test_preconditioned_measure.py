"""The preconditioned measure against the unsymmetric dense matrix of its definition."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from ntpctp._core.errors import InputError
from ntpctp.data.tokenize import encode
from ntpctp.measures import EncodedSplit, Preconditioned
from ntpctp.measures.context import EvaluationContext
from ntpctp.models import checkpoints
from ntpctp.models.build import build_model
from ntpctp.models.lora import add_lora
from ntpctp.models.options import ModelOptions
from ntpctp.objectives import CTP, NTP, Selective
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.training import TrainingOptions
from ntpctp.training.loop import TrainingLoop
from tests.measures.curvature_context import TOKENIZER, Reference, items, make_context

STEPS = 12


def trained(directory, **options):
    """Train a tiny model under NTP as every run is trained; return its stage's directory."""
    model = build_model(
        ModelOptions(family="gpt2", layers=1, width=4, heads=2, context=8), TOKENIZER, 8, seed=0
    )
    settings = {"steps": STEPS, "batch_size": 3, "learning_rate": 0.02, "schedule": "linear"}
    arguments = TrainingOptions.model_validate(settings | options)
    if arguments.lora is not None:
        add_lora(model, arguments.lora, seed=0)
    TrainingLoop(
        model=model,
        tokenizer=TOKENIZER,
        data=SupervisedExamples(encode(items(0, 7), TOKENIZER), NTP()),
        options=arguments,
        seed=0,
        directory=directory,
        checkpoint_steps=[6, STEPS],
        accelerator=Accelerator(cpu=True),
    ).run()
    return directory


def context_of(path, **fields):
    splits = {"train": EncodedSplit(items(0, 7), encode(items(0, 7), TOKENIZER))}
    settings = {"objective": NTP(), "batch_tokens": 64} | fields
    return EvaluationContext(
        source=path, tokenizer=TOKENIZER, splits=splits, evaluation_splits=("train",), **settings
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    directory = tmp_path_factory.mktemp("preconditioned") / "adam"
    return trained(directory, betas=[0.8, 0.95], epsilon=1e-4)


def by_name(scores):
    return {score.score: score for score in scores}


@pytest.mark.parametrize("step", [6, STEPS])
def test_equals_the_dense_matrix_and_the_files_of_the_checkpoint(stage, step):
    path = stage / f"step-{step:06d}"
    context = context_of(path)
    rows, scores = Preconditioned(relative_tolerance=1e-5).measure(context)
    found = by_name(scores)

    reference = Reference(context, "train", 7, NTP())
    stored = load_file(path / "optimizer.safetensors")
    moments = torch.cat([stored[f"exp_avg_sq/{n}"].flatten() for n in reference.parameters])
    diagonal = 1 / ((moments.double() / (1 - 0.95**step)).sqrt() + 1e-4)
    factor = (1 - 0.8) / ((1 + 0.8) * (1 - 0.8**step))
    hessian = torch.from_numpy(reference.hessian())
    matrix = factor * diagonal[:, None] * hessian
    top = np.linalg.eigvals(matrix.numpy()).real.max()
    gradient = reference.gradient()
    # Linear decay to zero at the last step: the last update was made one step before.
    rate = 0.02 * (STEPS - (step - 1)) / STEPS

    expected = {
        "top_eigenvalue_preconditioned": top,
        "stability_ratio": top * rate / 2,
        "gradient_curvature": gradient @ hessian @ gradient / (gradient @ gradient),
        "gradient_curvature_preconditioned": gradient @ matrix @ gradient / (gradient @ gradient),
    }
    expected["gradient_stability_ratio"] = expected["gradient_curvature_preconditioned"] * rate / 2
    assert set(found) == set(expected)
    assert top > 0 and len({round(float(v), 5) for v in expected.values()}) == 5  # told apart
    for name, value in expected.items():
        assert found[name].value == pytest.approx(float(value), rel=2e-5), name
        assert found[name].count == 7 and found[name].higher_is_better is None
    assert abs(found["top_eigenvalue_preconditioned"].value - top) <= 1e-5 * top
    assert 0 < found["stability_ratio"].error_bound <= 1e-5 * top * rate / 2 * 1.01
    assert rows[0]["stability_threshold"] == pytest.approx(2 / rate)
    assert rows[0]["updates"] == step


def reasons(context):
    _, scores = Preconditioned().measure(context)
    assert len(scores) == 5 and all(score.value is None for score in scores)
    (reason,) = {score.reason for score in scores}
    return reason


def test_before_the_first_update_there_is_no_such_matrix(stage):
    assert "before the first update" in reasons(context_of(stage / "step-000000"))


def test_other_optimizers_and_lora_have_none(tmp_path):
    sgd = trained(tmp_path / "sgd", optimizer="sgd", momentum=0.5, steps=6)
    assert "trained with SGD" in reasons(context_of(sgd / "step-000006"))
    lora = trained(tmp_path / "lora", lora={"rank": 2}, steps=6)
    assert "trained with LoRA" in reasons(context_of(lora / "step-000006"))


def test_weights_without_a_training_run_have_none(tmp_path):
    assert "holds no optimizer state" in reasons(make_context(tmp_path / "hub"))


def test_a_selective_loss_has_none(stage):
    context = context_of(stage / "step-000012", objective=Selective(reference="anywhere"))
    assert "no single Hessian" in reasons(context)


def test_what_has_not_converged_has_no_value(stage):
    measure = Preconditioned(relative_tolerance=1e-6, max_products=3)
    found = by_name(measure.measure(context_of(stage / "step-000012"))[1])
    for name in ("top_eigenvalue_preconditioned", "stability_ratio"):
        assert found[name].value is None and "raise max_products" in found[name].reason
    assert found["gradient_curvature_preconditioned"].value is not None


def test_settings_are_those_of_the_last_update(stage):
    settings = json.loads((stage / "step-000012" / "optimizer.json").read_text())
    assert settings == {
        "name": "AdamW",
        "lr": pytest.approx(0.02 / STEPS),
        "betas": [0.8, 0.95],
        "eps": 1e-4,
    }
    assert checkpoints.read_optimizer_settings(stage) is None


def test_refuses_a_split_that_is_not_there(stage):
    with pytest.raises(InputError, match="unknown split 'tain'; did you mean 'train'"):
        Preconditioned(split="tain").measure(context_of(stage / "step-000012", objective=CTP()))
