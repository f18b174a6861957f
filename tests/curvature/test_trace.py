"""trace against matrices with a known trace."""

import numpy as np
import pytest

from ntpctp._core.errors import InputError
from ntpctp.curvature import trace
from tests.curvature.curvature_references import MatrixOperator, symmetric

# Two outliers over a bulk that is neither flat nor of one sign.
SPECTRUM = np.concatenate([[100.0, -40.0], np.sin(np.arange(118.0))])


def test_unbiased_within_its_standard_errors():
    operator = MatrixOperator(symmetric(SPECTRUM))
    results = [trace(operator, num_products=30, seed=seed) for seed in range(300)]
    scores = np.array([(r.value - SPECTRUM.sum()) / r.standard_error for r in results])
    # Student's t with 9 degrees of freedom: 95 % within 2.26; the mean of 300 within 4 sigma.
    assert abs(scores.mean()) < 4 * scores.std() / np.sqrt(300)
    assert 0.91 < (np.abs(scores) < 2.26).mean() < 0.985


def test_outliers_are_caught_exactly():
    """Hutchinson's estimator alone has a standard error near sqrt(2 |A|^2 / n) = 34 here."""
    operator = MatrixOperator(symmetric(SPECTRUM))
    result = trace(operator, num_products=60, seed=0)
    assert result.standard_error < 5
    assert result.value == pytest.approx(SPECTRUM.sum(), abs=4 * result.standard_error)


def test_exact_if_the_budget_covers_the_space():
    operator = MatrixOperator(symmetric([3.0, -1.0, 0.5]))
    result = trace(operator, num_products=9, seed=0)
    assert result.value == pytest.approx(2.5, rel=1e-13)
    assert (result.standard_error, result.num_products, operator.num_products) == (0, 3, 3)


@pytest.mark.parametrize("num_products", [6, 7, 8, 31])
def test_spends_what_it_was_given(num_products):
    operator = MatrixOperator(symmetric(SPECTRUM))
    result = trace(operator, num_products=num_products, seed=0)
    assert result.num_products == operator.num_products == num_products


def test_same_seed_same_result_other_seed_other_result():
    operator = MatrixOperator(symmetric(SPECTRUM))
    first, again, other = (trace(operator, num_products=12, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.value != other.value


def test_refuses_too_few_products():
    with pytest.raises(InputError, match="num_products >= 6, found 5"):
        trace(MatrixOperator(symmetric(SPECTRUM)), num_products=5, seed=0)
