"""Sharpness against closed forms on quadratics."""

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.curvature import HessianOperator, MeanLoss, average_sharpness, worst_sharpness
from tests.curvature.curvature_references import bigram, columns, quadratic, symmetric

MATRIX = symmetric([-2.0, 1.0, 4.0, 9.0])


def at_minimum(matrix, shift):
    """A quadratic around ``shift``, with its parameters there: no slope, only curvature."""
    theta = torch.tensor(shift, dtype=torch.float64, requires_grad=True)
    centre = theta.detach().clone()

    def loss(_):
        offset = theta - centre
        return offset @ matrix @ offset / 2, torch.tensor(1)

    return MeanLoss(loss, {"theta": theta}, [None])


def product_model(factor):
    """(a, b) -> (factor a, b / factor) is the same function a b."""
    first = torch.tensor([0.5, -1.5], dtype=torch.float64).mul_(factor).requires_grad_()
    second = torch.tensor([2.0, 1.0], dtype=torch.float64).div_(factor).requires_grad_()

    def loss(_):
        return ((first * second).sum() - 1) ** 2, torch.tensor(1)

    return MeanLoss(loss, {"first": first, "second": second}, [None])


@pytest.mark.parametrize("scaling", ["element", "none"])
def test_average_of_a_quadratic_is_half_the_scaled_trace(scaling):
    mean_loss = MeanLoss(*quadratic(MATRIX).arguments)  # with a slope, which must cancel
    scale = mean_loss.parameters.values().abs() if scaling == "element" else torch.ones(4).double()
    exact = 0.5 * 0.3**2 * float((scale.diag() @ MATRIX @ scale.diag()).trace())
    scores = []
    for seed in range(50):
        result = average_sharpness(mean_loss, radius=0.3, seed=seed, scaling=scaling, num_draws=30)
        scores.append((result.value - exact) / result.standard_error)
    assert abs(np.mean(scores)) < 4 * np.std(scores) / np.sqrt(50)
    assert (np.abs(scores) < 2.2).mean() > 0.85


def test_element_wise_sharpness_does_not_change_when_a_model_is_rescaled():
    def average(factor, scaling):
        return average_sharpness(product_model(factor), radius=0.1, seed=0, scaling=scaling).value

    assert average(7.0, "element") == pytest.approx(average(1.0, "element"), rel=1e-10)
    assert average(7.0, "none") > 5 * average(1.0, "none")  # the plain measure is fooled
    worst = [worst_sharpness(product_model(f), radius=0.1, seed=0).value for f in (1.0, 7.0)]
    assert worst[1] == pytest.approx(worst[0], rel=1e-10)


def test_filter_scaling_moves_by_the_norm_of_the_filters():
    problem = bigram()
    mean_loss = MeanLoss(*problem.arguments)
    found = average_sharpness(mean_loss, radius=1e-3, seed=0, scaling="filter", num_draws=200)
    # Second order: the offset of each filter is uniform on a sphere of its norm, so the mean rise
    # is radius^2 / 2 * sum over filters of |w|^2 / size * (trace of its block).
    hessian = columns(HessianOperator(*problem.arguments))
    weights = [
        (tensor.detach().norm(dim=1, keepdim=True) ** 2 / tensor.shape[1]).expand_as(tensor)
        for tensor in problem.parameters.values()
    ]
    expected = 1e-6 / 2 * float(hessian.diag() @ torch.cat([w.flatten() for w in weights]))
    assert found.value == pytest.approx(expected, abs=4 * found.standard_error)
    assert found.standard_error < 0.3 * abs(expected)


@pytest.mark.parametrize("scaling", ["element", "none"])
def test_worst_in_a_ball_is_half_the_top_eigenvalue(scaling):
    shift = [1.0, -0.5, 2.0, 0.25]
    mean_loss = at_minimum(MATRIX, shift)
    scale = torch.tensor(shift).double().abs() if scaling == "element" else torch.ones(4).double()
    top = float(torch.linalg.eigvalsh(scale.diag() @ MATRIX @ scale.diag())[-1])
    result = worst_sharpness(mean_loss, radius=0.3, seed=0, scaling=scaling, num_steps=60)
    assert result.value == pytest.approx(0.5 * 0.3**2 * top, rel=1e-6)
    assert result.value <= 0.5 * 0.3**2 * top * (1 + 1e-12)  # a lower bound
    assert 0 <= result.first_value <= result.value
    assert result.num_gradients <= 60


def test_worst_in_a_box_of_a_linear_loss_is_at_a_corner():
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    slope = torch.tensor([3.0, 1.0, -2.0], dtype=torch.float64)
    mean_loss = MeanLoss(lambda _: (weights @ slope, torch.tensor(1)), {"w": weights}, [None])
    result = worst_sharpness(mean_loss, radius=0.1, seed=0, norm="linf")
    assert result.value == pytest.approx(0.1 * (3 + 2 + 1), rel=1e-12)


def test_worst_is_zero_at_a_maximum():
    mean_loss = at_minimum(-torch.eye(3, dtype=torch.float64), [1.0, 1.0, 1.0])
    assert worst_sharpness(mean_loss, radius=0.1, seed=0).value == 0


def test_worst_is_above_average():
    mean_loss = MeanLoss(*bigram().arguments)
    average = average_sharpness(mean_loss, radius=0.05, seed=0)
    # A Gaussian draw of P = 30 entries has length near sqrt(30).
    worst = worst_sharpness(mean_loss, radius=0.05 * 30**0.5, seed=0)
    assert worst.value > average.value + 3 * average.standard_error


def test_same_seed_same_draws_other_seed_other_draws():
    mean_loss = MeanLoss(*bigram().arguments)
    before = mean_loss.parameters.values()
    first, again, other = (
        average_sharpness(mean_loss, radius=0.1, seed=seed, num_draws=3) for seed in (1, 1, 2)
    )
    assert first == again
    assert first.rises != other.rises
    assert torch.equal(mean_loss.parameters.values(), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0}, "a radius above 0, found 0"),
        ({"num_draws": 1}, "num_draws >= 2, found 1"),
        ({"scaling": "layer"}, "element, filter or none, found 'layer'"),
    ],
)
def test_average_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        average_sharpness(MeanLoss(*bigram().arguments), **({"radius": 0.1, "seed": 0} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": -1}, "a radius above 0, found -1"),
        ({"norm": "l1"}, "norm to be l2 or linf, found 'l1'"),
        ({"num_steps": 0}, "num_steps >= 1, found 0"),
        ({"scaling": "filter"}, "element or none, found 'filter'"),
    ],
)
def test_worst_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        worst_sharpness(MeanLoss(*bigram().arguments), **({"radius": 0.1, "seed": 0} | arguments))


def test_a_loss_that_overflows_nearby_is_said():
    weight = torch.tensor([700.0], dtype=torch.float64, requires_grad=True)
    mean_loss = MeanLoss(lambda _: (weight.exp().sum(), torch.tensor(1)), {"w": weight}, [None])
    with pytest.raises(InputError, match="not finite at radius 2 around the weights"):
        average_sharpness(mean_loss, radius=2, seed=0)
