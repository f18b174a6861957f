"""MeanLoss: one division, and every guard with its message."""

import math

import pytest
import torch
from torch import nn

from ntpctp._core.errors import InputError
from ntpctp.curvature import HessianOperator, MeanLoss
from tests.curvature.curvature_models import transformer
from tests.curvature.curvature_references import bigram, quadratic, symmetric


def parameter(*values):
    return {"w": torch.tensor(values, dtype=torch.float64, requires_grad=True)}


def test_value_is_one_mean_over_all_batches():
    problem = bigram()
    loss = MeanLoss(*problem.arguments)
    merged, weight = problem.loss(torch.cat(problem.batches, dim=1))
    assert loss.total_weight == 9 == int(weight)
    assert loss.value == pytest.approx(float(merged.detach()) / 9, rel=1e-14)


def test_gradient_matches_autograd():
    problem = bigram()
    merged, _ = problem.loss(torch.cat(problem.batches, dim=1))
    expected = torch.autograd.grad(merged / 9, list(problem.parameters.values()))
    torch.testing.assert_close(
        MeanLoss(*problem.arguments).gradient(),
        torch.cat([piece.flatten() for piece in expected]),
        rtol=1e-12,
        atol=1e-14,
    )


def test_values_elsewhere_leave_the_parameters_bit_for_bit():
    problem = bigram()
    loss = MeanLoss(*problem.arguments)
    before = loss.parameters.values()
    elsewhere = loss.mean_at(before / 3)
    gradient = loss.gradient_at(before / 3)
    assert torch.equal(loss.parameters.values(), before)
    loss.check_unchanged()
    loss.parameters.assign(before / 3)
    moved = MeanLoss(*problem.arguments)
    assert elsewhere == pytest.approx(moved.value, rel=1e-14)
    assert elsewhere != loss.value
    torch.testing.assert_close(gradient, moved.gradient(), rtol=1e-14, atol=1e-16)


def test_a_loss_that_overflows_elsewhere_is_no_error_but_its_gradient_is():
    loss = MeanLoss(*bigram().arguments)
    before = loss.parameters.values()
    assert math.isnan(loss.mean_at(before * torch.nan))
    with pytest.raises(InputError, match="the loss of batch 0 is nan"):
        loss.gradient_at(before * torch.nan)
    assert torch.equal(loss.parameters.values(), before)


def test_refuses_an_iterator():
    problem = bigram()
    with pytest.raises(InputError, match=r"found list_iterator.*use list\(batches\)"):
        MeanLoss(problem.loss, problem.parameters, iter(problem.batches))


def test_refuses_no_batch():
    problem = bigram()
    with pytest.raises(InputError, match="the list of batches is empty"):
        MeanLoss(problem.loss, problem.parameters, [])


def test_refuses_zero_weight():
    weights = parameter(1.0)
    with pytest.raises(InputError, match="total weight of the 2 batches is 0: no token counts"):
        MeanLoss(lambda _: (weights["w"].sum() * 0, torch.tensor(0)), weights, [None, None])


def test_refuses_a_mean_over_nothing_by_batch():
    weights = parameter(1.0)

    def loss(batch):
        return weights["w"].sum() / batch, torch.tensor(1)

    with pytest.raises(InputError, match="the loss of batch 1 is inf: curvature needs finite"):
        MeanLoss(loss, weights, [1.0, 0.0])


def test_refuses_a_loss_that_is_not_a_scalar():
    weights = parameter(1.0, 2.0)
    with pytest.raises(InputError, match=r"as a scalar, found shape \(2,\); sum over"):
        MeanLoss(lambda _: (weights["w"] ** 2, torch.tensor(1)), weights, [None])


def test_refuses_dropout():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)).double()
    data = torch.randn(16, 4, dtype=torch.float64)

    def loss(_):
        return (model(data) ** 2).sum(), torch.tensor(16)

    parameters = dict(model.named_parameters())
    with pytest.raises(InputError, match=r"not deterministic: the first batch gave .*model.eval"):
        HessianOperator(loss, parameters, [None])
    model.eval()
    HessianOperator(loss, parameters, [None])


def test_refuses_parameters_of_another_model():
    problem = bigram()
    with pytest.raises(InputError, match="batch 0 does not depend on any of the parameters"):
        HessianOperator(lambda _: (torch.ones(()), torch.tensor(1)), problem.parameters, [None])


def test_refuses_fused_attention_and_says_eager():
    problem = transformer("gpt2", attention="sdpa")
    operator = HessianOperator(*problem.arguments)  # one derivative exists
    with pytest.raises(InputError, match=r'no second derivative; .* attn_implementation="eager"'):
        operator @ torch.ones(operator.shape[0], dtype=operator.dtype)


def test_names_another_operation_without_second_derivative():
    weights = parameter(0.5, 1.5)

    class OnceOnly(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            context.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(context, gradient):
            raise NotImplementedError("the derivative for 'once_only' is not implemented")

    with pytest.raises(InputError, match=r"an operation of the loss has no .*'once_only'"):
        MeanLoss(
            lambda _: (OnceOnly.apply(weights["w"]).sum(), torch.tensor(1)), weights, [None]
        ).gradient()


def test_other_errors_of_the_loss_pass_through():
    weights = parameter(1.0)

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x**2

        @staticmethod
        def backward(context, gradient):
            raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="the disk is on fire"):
        MeanLoss(
            lambda _: (Broken.apply(weights["w"]).sum(), torch.tensor(1)), weights, [None]
        ).gradient()


def test_refuses_a_derivative_that_is_not_finite():
    weights = parameter(0.0)  # the square root has a finite value and an infinite slope at 0
    with pytest.raises(InputError, match="a derivative of the loss is not finite although"):
        HessianOperator(lambda _: (weights["w"].sqrt().sum(), torch.tensor(1)), weights, [None])


def test_refuses_parameters_that_were_changed():
    problem = quadratic(symmetric([1.0, 2.0]))
    operator = HessianOperator(*problem.arguments)
    with torch.no_grad():
        problem.parameters["theta"].add_(1)
    with pytest.raises(InputError, match="parameters were changed after the operator was made"):
        operator @ torch.ones(2, dtype=torch.float64)
