"""top_eigenvalues against numpy.linalg.eigh."""

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.curvature import HessianOperator, top_eigenvalues
from tests.curvature.curvature_references import MatrixOperator, bigram, dense_hessian, symmetric


def test_largest_is_algebraic_not_in_magnitude():
    operator = MatrixOperator(symmetric([-10.0, -1.0, 0.5, 3.0]))

    result = top_eigenvalues(operator, seed=0, relative_tolerance=1e-10)

    assert result.value == pytest.approx(3, rel=1e-9)
    assert result.opposite_value == pytest.approx(-10, rel=1e-9)


def test_smallest_and_its_opposite():
    operator = MatrixOperator(symmetric(np.linspace(-3, 5, 30)))

    result = top_eigenvalues(operator, k=2, which="smallest", seed=0, relative_tolerance=1e-8)

    assert result.converged
    np.testing.assert_allclose(result.values, [-3, -3 + 8 / 29], rtol=1e-7)
    assert abs(result.opposite_value - 5) <= result.opposite_residual + 1e-12


def test_both_waits_for_the_other_end():
    # The lower end is crowded, so it converges much later than the upper one.
    spectrum = np.concatenate([np.linspace(-1, 0, 200), [50.0]])
    operator = MatrixOperator(symmetric(spectrum))

    largest = top_eigenvalues(operator, seed=0, relative_tolerance=1e-6)
    both = top_eigenvalues(operator, which="both", seed=0, relative_tolerance=1e-6)

    assert both.converged
    assert both.num_products > largest.num_products
    assert both.opposite_value == pytest.approx(-1, rel=1e-6)
    assert largest.opposite_residual > 1e-6


@pytest.mark.slow
def test_residual_is_a_true_bound_on_1000_random_matrices():
    generator = np.random.default_rng(0)
    converged = missed = 0
    for trial in range(1000):
        size = int(generator.integers(1, 40))
        square = generator.standard_normal((size, size))
        matrix = square + square.T
        exact = np.linalg.eigvalsh(matrix)[::-1]
        k = int(generator.integers(1, min(size, 3) + 1))
        result = top_eigenvalues(
            MatrixOperator(matrix),
            k,
            seed=trial,
            relative_tolerance=1e-3,
            max_products=int(generator.integers(2 * k, 30)),
            basis_size=int(generator.integers(k + 3, 15)),
            verify=bool(trial % 2),
        )
        rounding = 1e-12 * np.abs(exact).max()
        for value, residual in zip(result.values, result.residuals, strict=True):
            assert np.abs(exact - value).min() <= residual + rounding, trial
        assert np.abs(exact - result.opposite_value).min() <= result.opposite_residual + rounding
        if result.converged:
            converged += 1
            missed += not np.allclose(result.values, exact[:k], rtol=1.1e-3)
    assert 300 < converged < 1000  # both outcomes were met
    # The residual belongs to *an* eigenvalue. A start vector with little of the outermost one may
    # stop at its neighbour, which no computation with products alone can notice.
    assert missed <= 5


def test_restarts_reach_the_accuracy_that_a_large_basis_reaches():
    spectrum = 1 - np.linspace(0, 1, 80) ** 2  # the top is crowded: many restarts
    operator = MatrixOperator(symmetric(spectrum))

    result = top_eigenvalues(
        operator, k=3, seed=0, relative_tolerance=1e-8, basis_size=12, max_products=2000
    )

    assert result.converged
    assert 100 < result.num_products < 1000
    np.testing.assert_allclose(result.values, np.sort(spectrum)[::-1][:3], rtol=1e-12)


def test_the_basis_stays_orthonormal_in_float32():
    # Without re-orthogonalisation, converged directions come back as spurious copies of 1000.
    spectrum = np.concatenate([np.linspace(0, 1, 300), [1000.0]])
    operator = MatrixOperator(symmetric(spectrum, dtype=torch.float32))

    result = top_eigenvalues(
        operator,
        k=3,
        seed=0,
        relative_tolerance=1e-3,
        basis_size=60,
        max_products=600,
        vectors=True,
    )

    np.testing.assert_allclose(result.values, [1000, 1, 1 - 1 / 299], rtol=2e-3)
    gram = result.vectors @ result.vectors.T
    torch.testing.assert_close(gram, torch.eye(3), rtol=0, atol=1e-5)


def test_vectors_are_eigenvectors():
    matrix = symmetric(np.arange(20.0))
    result = top_eigenvalues(
        MatrixOperator(matrix), k=3, seed=0, relative_tolerance=1e-11, vectors=True
    )
    for value, vector in zip(result.values, result.vectors, strict=True):
        torch.testing.assert_close(matrix @ vector, value * vector, rtol=0, atol=1e-8)
        assert float(vector.norm()) == pytest.approx(1)


def test_vectors_are_left_out_unless_asked_for():
    assert top_eigenvalues(MatrixOperator(symmetric([1.0, 2.0])), seed=0).vectors is None


def test_repeated_top_eigenvalue():
    operator = MatrixOperator(symmetric([0.0] * 10 + [1.0] * 5 + [7.0] * 3))
    result = top_eigenvalues(operator, seed=0, relative_tolerance=1e-8)
    assert result.value == pytest.approx(7, rel=1e-10)
    assert result.converged


def test_copies_are_found_when_the_space_is_exhausted():
    spectrum = [0.0, 2.0, 2.0, 7.0, 7.0]
    result = top_eigenvalues(
        MatrixOperator(symmetric(spectrum)), k=5, seed=0, relative_tolerance=1e-8
    )
    np.testing.assert_allclose(result.values, spectrum[::-1], atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_operator_smaller_than_the_basis(size):
    spectrum = np.arange(1.0, size + 1)
    result = top_eigenvalues(
        MatrixOperator(symmetric(spectrum)), k=size, seed=0, relative_tolerance=1e-10
    )
    np.testing.assert_allclose(result.values, spectrum[::-1], rtol=1e-12)


def test_zero_matrix():
    result = top_eigenvalues(MatrixOperator(torch.zeros(5, 5)), seed=0)
    assert result.values == (0.0,)
    assert result.residuals == (0.0,)
    assert result.converged


def test_too_few_products_is_said():
    operator = MatrixOperator(symmetric(np.linspace(0, 1, 200)))
    result = top_eigenvalues(operator, seed=0, max_products=5)
    assert not result.converged
    assert result.residual > 1e-3 * result.value
    assert result.num_products == operator.num_products == 5


def test_residual_includes_the_rounding_of_the_operator():
    """The computed bound falls below what float32 products resolve; the reported does not."""
    matrix = symmetric(np.concatenate([np.linspace(-1e4, 0, 50), [1.0]]))

    class Rounded(MatrixOperator):
        def __matmul__(self, vector):
            return (self.matrix @ vector.double()).float()

    operator = Rounded(matrix)
    operator.dtype = torch.float32
    result = top_eigenvalues(operator, seed=0, relative_tolerance=1e-6, max_products=300)
    exact = 1.0
    assert abs(result.value - exact) <= result.residual + 1e-7
    assert not result.converged


def test_same_seed_same_result_other_seed_other_result():
    operator = MatrixOperator(symmetric(np.linspace(0, 1, 50)))
    first, again, other = (top_eigenvalues(operator, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.value != other.value


def test_start_vector_is_used():
    matrix = torch.diag(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
    start = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)  # blind to the third direction
    result = top_eigenvalues(MatrixOperator(matrix), seed=0, start=start)
    assert result.value == pytest.approx(2)


def test_hessian_of_a_model():
    problem = bigram()
    exact = torch.linalg.eigvalsh(dense_hessian(problem))
    operator = HessianOperator(*problem.arguments)
    result = top_eigenvalues(operator, k=2, which="both", seed=0, relative_tolerance=1e-8)
    np.testing.assert_allclose(result.values, exact.flip(0)[:2], rtol=1e-10)
    assert result.opposite_value == pytest.approx(float(exact[0]), rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"expected 1 <= k <= 4, the size of the operator, found k = 0"),
        ({"k": 5}, r"found k = 5"),
        ({"which": "top"}, "expected which to be largest, smallest or both, found 'top'"),
        ({"k": 2, "basis_size": 4}, r"basis_size of at least k \+ 3 = 5, found 4"),
        ({"k": 2, "max_products": 3}, r"max_products >= 2 k = 4, found 3"),
        ({"start": torch.zeros(4)}, r"shape \(4,\) that is not zero"),
        ({"start": torch.ones(3)}, r"found shape \(3,\)"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        top_eigenvalues(MatrixOperator(symmetric([1.0, 2.0, 3.0, 4.0])), seed=0, **arguments)
