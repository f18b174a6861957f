"""Every measure in float32 against float64: the same decisions, and numbers that agree to a bound.

The weights are those of float32 in both, so all that differs is the arithmetic.
"""

import pytest
import torch

from ntpctp._core.layout import RunId, checkpoint_directory, stage_directory
from ntpctp.config import experiment_of
from ntpctp.measures import MEASURES
from ntpctp.measures.context import EvaluationContext
from ntpctp.objectives import CTP
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import execute
from tests.conftest import tiny_content
from tests.measures.test_not_finite import OPTIONS

BOUNDS = {
    "accuracy": 1e-6,
    "robustness": 1e-9,
    "weight_noise": 1e-9,
    "adversarial": 1e-9,
    "edits": 1e-9,
    "contrast": 1e-9,
    "flatness": 1e-5,
    "sharpness": 1e-3,
    "landscape": 1e-5,
    "preconditioned": 1e-5,
}
"""Largest difference of a score, relative to the largest of its kind (of its curve)."""


class Throughout(EvaluationContext):
    """A context whose own precision is used for everything: curvature else asks for float32."""

    def load(self, attention, dtype=None):
        return super().load(attention, self.dtype)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    task = {"name": "addition", "digits": 1, "train_size": 60, "test_size": 20}
    training = {"steps": 150, "batch_size": 16, "learning_rate": 1e-2}
    evaluation = {"every": None, "measures": ["accuracy"]}
    content = tiny_content(task=task, training=training, evaluation=evaluation)
    experiment = experiment_of(content, "tiny")
    data, output, run = prepare(experiment), tmp_path_factory.mktemp("trained"), RunId("ctp", 0)
    execute(experiment, data, run, output, lambda event: None)
    return data, checkpoint_directory(stage_directory(output, run), 150)


def difference(trained, name):
    """The largest relative difference between the precisions, and how many numbers there are."""
    data, checkpoint = trained
    measure = MEASURES[name].model_validate({"name": name, **OPTIONS[name]})
    fields = {
        "source": checkpoint,
        "tokenizer": data.tokenizer,
        "splits": data.splits,
        "evaluation_splits": data.evaluation_splits,
        "objective": CTP(),
        "task": data.task,
        "max_length": data.context,
    }
    single, double = (
        measure.measure(Throughout(**fields, dtype=dtype))[1]
        for dtype in (torch.float32, torch.float64)
    )
    assert [(s.score, s.strength) for s in single] == [(s.score, s.strength) for s in double]
    scale: dict[str, float] = {}
    for score in double:
        scale[score.score] = max(scale.get(score.score, 0.0), abs(score.value or 0.0))
    found = [
        abs(one.value - other.value) / scale[one.score]
        for one, other in zip(single, double, strict=True)
        if one.value is not None and scale[one.score]
    ]
    assert [s.value is None for s in single] == [s.value is None for s in double]
    return max(found), len(found)


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.slow
def test_float32_agrees_with_float64(trained, name):
    found, number = difference(trained, name)
    print(f"{name}: {found:.1e} over {number} scores")
    assert number >= 2 and found < BOUNDS[name]


def test_all_measures_are_compared():
    assert BOUNDS.keys() == MEASURES.keys()
