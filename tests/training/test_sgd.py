"""SGD against its formula, resumed, and what belongs to another optimizer."""

import pytest
import torch

from ntpctp.objectives import CTP
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.objectives.loss import token_loss
from ntpctp.training import TrainingOptions
from ntpctp.training.order import batch_indices
from tests.training.test_training import (
    OPTIONS,
    assert_same,
    model_of,
    resumed_at,
    run,
    uneven_rows,
)


def test_sgd_equals_its_formula(tmp_path):
    """Reference: v <- m v + g + wd w; w <- w - lr v, written out."""
    changes = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1, "max_grad_norm": None}
    found = run(tmp_path, warmup_steps=0, **changes)
    model, rows = model_of().train(), uneven_rows()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for step in range(10):
        batch = SupervisedExamples(rows, CTP()).batch(batch_indices(0, step, 8, len(rows)), step)
        total, normaliser = token_loss(model, batch)
        gradients = torch.autograd.grad(total / normaliser, list(model.parameters()))
        with torch.no_grad():
            for w, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                v.mul_(0.5).add_(g + (0.1 * w if w.ndim > 1 else 0))
                w.sub_(1e-2 * v)
    reference = {name: tensor for name, tensor in model.state_dict().items() if name in found}
    assert_same(found, reference, 1e-12)
    assert_same(found, resumed_at(0, tmp_path, warmup_steps=0, **changes))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_resumes_bit_for_bit(tmp_path, momentum):
    changes = {"optimizer": "sgd", "momentum": momentum, "steps_saved": [4]}
    whole = run(tmp_path, **changes)
    assert_same(whole, resumed_at(4, tmp_path, **changes))


def test_options_of_another_optimizer_are_refused():
    with pytest.raises(ValueError, match="momentum: not an option of the optimizer adamw"):
        TrainingOptions(**OPTIONS, momentum=0.5)
    with pytest.raises(ValueError, match="betas: not an option of the optimizer sgd"):
        TrainingOptions(**OPTIONS, optimizer="sgd", betas=(0.9, 0.95))
