"""PreconditionedHessian against the unsymmetric matrix of the definition, and against Adam."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.curvature import (
    AdamState,
    HessianOperator,
    PreconditionedHessian,
    adam_state,
    directional_curvature,
    top_eigenvalues,
)
from tests.curvature.curvature_references import (
    MatrixOperator,
    bigram,
    columns,
    quadratic,
    symmetric,
)


def trained(steps=3, optimizer_type=torch.optim.AdamW, **options):
    problem = bigram()
    optimizer = optimizer_type(problem.parameters.values(), lr=0.01, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(problem.loss(batch)[0] for batch in problem.batches).backward()
        optimizer.step()
    return problem, optimizer


def test_has_the_eigenvalues_of_the_definition():
    problem, optimizer = trained(betas=(0.8, 0.95), eps=1e-3)
    hessian = HessianOperator(*problem.arguments)
    operator = PreconditionedHessian(hessian, adam_state(optimizer, problem.parameters))

    moments = torch.cat(
        [optimizer.state[p]["exp_avg_sq"].flatten() for p in problem.parameters.values()]
    )
    diagonal = 1 / ((moments / (1 - 0.95**3)).sqrt() + 1e-3)
    factor = (1 - 0.8) / ((1 + 0.8) * (1 - 0.8**3))
    unsymmetric = factor * diagonal[:, None] * columns(hessian)
    exact = np.sort(np.linalg.eigvals(unsymmetric.numpy()).real)

    matrix = columns(operator)
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(torch.linalg.eigvalsh(matrix).numpy(), exact, rtol=1e-8, atol=1e-8)
    top = top_eigenvalues(operator, seed=0, relative_tolerance=1e-8)
    assert top.value == pytest.approx(exact[-1], rel=1e-9)
    assert operator.stability_threshold == pytest.approx(200)

    gradient = hessian.gradient
    expected = gradient @ unsymmetric @ gradient / (gradient @ gradient)
    assert operator.gradient_curvature() == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize(("curvature", "stable"), [(0.98, True), (1.02, False)])
def test_the_threshold_decides_whether_adam_diverges(curvature, stable):
    """A quadratic under momentum with v frozen: just below 2 / lr it converges, above it does not.

    With v fixed Adam is the linear recursion of the paper's lemma, for t large.
    """
    learning_rate, beta1, moment = 0.1, 0.9, 4.0
    target = curvature * 2 / learning_rate  # of the preconditioned Hessian
    hessian = target * (1 + beta1) / (1 - beta1) * moment**0.5
    state = AdamState({"theta": torch.full((1,), moment)}, 10**9, beta1, 0.0, 0.0, learning_rate)
    problem = quadratic(torch.full((1, 1), hessian, dtype=torch.float64))
    operator = PreconditionedHessian(HessianOperator(*problem.arguments), state)
    value = top_eigenvalues(operator, seed=0).value
    assert (value < operator.stability_threshold) == stable

    theta, momentum = 1.0, 0.0
    for _ in range(2000):
        momentum = beta1 * momentum + (1 - beta1) * hessian * theta
        theta -= learning_rate * momentum / moment**0.5
    assert (abs(theta) < 1e-3) == stable


def test_directional_curvature_lies_within_the_spectrum():
    operator = MatrixOperator(symmetric([-3.0, 1.0, 4.0]))
    direction = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    expected = direction @ operator.matrix @ direction / (direction @ direction)
    assert directional_curvature(operator, direction) == pytest.approx(float(expected), rel=1e-14)


def test_directional_curvature_refuses_zero():
    with pytest.raises(InputError, match="the direction is zero"):
        directional_curvature(MatrixOperator(symmetric([1.0, 2.0])), torch.zeros(2))


def test_adam_state_survives_a_state_dict():
    problem, optimizer = trained()
    state = adam_state(optimizer, problem.parameters)
    restored = torch.optim.AdamW(problem.parameters.values(), lr=1)
    restored.load_state_dict(optimizer.state_dict())
    again = adam_state(restored, problem.parameters)
    assert (again.step, again.learning_rate) == (state.step, state.learning_rate) == (3, 0.01)
    for name, moment in state.second_moments.items():
        assert torch.equal(again.second_moments[name], moment)


def test_adam_state_refuses_another_optimizer():
    problem, optimizer = trained(optimizer_type=torch.optim.SGD)
    with pytest.raises(InputError, match="no Adam state for parameter 'table'; give an Adam"):
        adam_state(optimizer, problem.parameters)


def test_adam_state_refuses_before_the_first_step():
    problem, optimizer = trained(steps=0)
    with pytest.raises(InputError, match="after at least one step"):
        adam_state(optimizer, problem.parameters)


def test_adam_state_refuses_amsgrad():
    problem, optimizer = trained(amsgrad=True)
    with pytest.raises(InputError, match="amsgrad"):
        adam_state(optimizer, problem.parameters)


def test_adam_state_refuses_groups_that_differ():
    problem, _ = trained()
    groups = [{"params": [p], "lr": p.shape[0]} for p in problem.parameters.values()]
    optimizer = torch.optim.AdamW(groups)
    optimizer.step()
    with pytest.raises(InputError, match=r"found \[1\] and .*measure one group at a time"):
        adam_state(optimizer, problem.parameters)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"second_moments": {}}, r"lacks 2 parameters: \['table', 'head'\]"),
        ({"step": 0}, "before the first step"),
        (
            {"second_moments": {"table": torch.ones(3, 5), "head": torch.ones(3, 5)}},
            r"second moment of 'table' has shape \(3, 5\), expected \(5, 3\)",
        ),
    ],
)
def test_refuses(change, message):
    problem, optimizer = trained()
    state = replace(adam_state(optimizer, problem.parameters), **change)
    with pytest.raises(InputError, match=message):
        PreconditionedHessian(HessianOperator(*problem.arguments), state)
