"""FiniteDifferenceHessian against the exact Hessian."""

import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.curvature import FiniteDifferenceHessian, HessianOperator
from tests.curvature.curvature_models import dense_hessian_of, transformer
from tests.curvature.curvature_references import bigram, columns, quadratic, symmetric


def test_matches_in_float64():
    problem = bigram()
    exact = columns(HessianOperator(*problem.arguments))
    approximate = columns(FiniteDifferenceHessian(*problem.arguments))
    # Truncation, of the order of the square of the step: (3e-5)^2.
    torch.testing.assert_close(approximate, exact, rtol=1e-7, atol=1e-8)


def test_is_exact_on_a_quadratic_whatever_the_step():
    matrix = symmetric([-2.0, 1.0, 5.0])
    operator = FiniteDifferenceHessian(*quadratic(matrix).arguments, relative_step=0.5)
    torch.testing.assert_close(columns(operator), matrix, rtol=1e-12, atol=1e-12)


def test_in_float32_three_digits_are_left():
    exact = columns(HessianOperator(*bigram().arguments))
    approximate = columns(FiniteDifferenceHessian(*bigram(torch.float32).arguments))
    # Rounding: 6e-8 of a gradient of order 1, over a step of 3e-5 times a norm of 5.
    torch.testing.assert_close(approximate.double(), exact, rtol=0, atol=1e-3)


def test_works_with_fused_attention():
    operator = FiniteDifferenceHessian(*transformer("gpt2", attention="sdpa").arguments)
    dense = dense_hessian_of("gpt2")
    vector = torch.randn(len(dense), dtype=torch.float64, generator=torch.manual_seed(0))
    expected = dense @ vector
    error = torch.linalg.vector_norm(operator @ vector - expected)
    assert float(error) < 1e-5 * float(torch.linalg.vector_norm(expected))


def test_the_step_scales_with_the_weights_and_not_with_the_vector():
    problem = bigram()
    operator = FiniteDifferenceHessian(*problem.arguments)
    vector = torch.ones(30, dtype=torch.float64)
    scaled = operator @ (1e6 * vector)
    torch.testing.assert_close(scaled, 1e6 * (operator @ vector), rtol=1e-6, atol=0)
    assert not (operator @ (0 * vector)).any()


def test_restores_the_weights_bit_for_bit():
    problem = bigram(torch.float32)
    operator = FiniteDifferenceHessian(*problem.arguments)
    before = operator.parameters.values()
    operator @ torch.ones(30)
    assert torch.equal(operator.parameters.values(), before)


def test_refuses_a_step_that_is_not_positive():
    with pytest.raises(InputError, match="relative_step above 0, found 0"):
        FiniteDifferenceHessian(*bigram().arguments, relative_step=0)


def test_refuses_weights_that_are_all_zero():
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(InputError, match="all parameters are zero"):
        FiniteDifferenceHessian(
            lambda _: ((weight**2).sum(), torch.tensor(1)), {"weight": weight}, [None]
        )
