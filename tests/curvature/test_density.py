"""density against known spectra."""

import numpy as np
import pytest
import torch

from ntpctp._core.errors import InputError
from ntpctp.curvature import density
from tests.curvature.curvature_references import MatrixOperator, symmetric

SPECTRUM = np.concatenate([[30.0, -10.0], np.linspace(-1, 2, 148)])


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.slow
def test_moments_are_unbiased_within_their_standard_errors(power):
    exact = (SPECTRUM**power).mean()
    scores = []
    for seed in range(60):
        result = density(MatrixOperator(symmetric(SPECTRUM)), num_probes=12, num_steps=8, seed=seed)
        value, error = result.mean(lambda x: x**power)
        scores.append((value - exact) / error)
    scores = np.array(scores)
    # Student's t with 11 degrees of freedom: 95 % within 2.2; probes are skew, so some slack.
    assert abs(scores.mean()) < 4 * scores.std() / np.sqrt(len(scores))
    assert (np.abs(scores) < 2.2).mean() > 0.85


def test_exact_when_every_direction_is_spanned():
    """With m = P each probe's quadrature is that of its own weights: functions come out exact."""
    matrix = symmetric(np.linspace(-1, 1, 6))
    result = density(MatrixOperator(matrix), num_probes=3, num_steps=20, seed=0)
    for nodes, weights in zip(result.nodes, result.weights, strict=True):
        np.testing.assert_allclose(nodes, np.linspace(-1, 1, 6), atol=1e-12)
        assert weights.sum() == pytest.approx(1, rel=1e-12)


def test_the_quadrature_of_a_probe_is_exact_up_to_its_degree():
    matrix = symmetric(SPECTRUM)
    seen = []

    class Watched(MatrixOperator):
        def __matmul__(self, vector):
            seen.append(vector.clone())
            return super().__matmul__(vector)

    result = density(Watched(matrix), num_probes=1, num_steps=5, seed=0)
    probe, image = seen[0], seen[0]
    for power in range(1, 10):  # 2 m - 1 = 9
        image = matrix @ image
        value, _ = result.mean(lambda x, power=power: x**power)
        assert value == pytest.approx(float(probe @ image), rel=1e-9)


def test_smoothed_matches_the_known_density():
    result = density(MatrixOperator(symmetric(SPECTRUM)), num_probes=40, num_steps=40, seed=0)
    grid, width = np.linspace(-15, 35, 2001), 0.5
    values, errors = result.smoothed(grid, width)
    exact = np.exp(-(((grid[:, None] - SPECTRUM) / width) ** 2) / 2).mean(axis=1)
    exact /= width * np.sqrt(2 * np.pi)
    assert (values * (grid[1] - grid[0])).sum() == pytest.approx(1, abs=1e-6)
    assert (np.abs(values - exact) <= 4 * errors + 1e-3).all()
    assert np.abs(values - exact).max() < 0.02
    assert errors.max() < 0.02


def test_an_invariant_space_ends_the_probe_early():
    operator = MatrixOperator(symmetric([1.0] * 7 + [5.0] * 3))
    result = density(operator, num_probes=2, num_steps=9, seed=0)
    assert all(len(nodes) == 2 for nodes in result.nodes)
    assert result.num_products == operator.num_products == 4


def test_one_probe_has_no_standard_error():
    result = density(MatrixOperator(symmetric(SPECTRUM)), num_probes=1, num_steps=5, seed=0)
    assert np.isnan(result.mean(lambda x: x)[1])
    assert np.isnan(result.smoothed(np.zeros(2), 1.0)[1]).all()


def test_same_seed_same_result_other_seed_other_result():
    operator = MatrixOperator(symmetric(SPECTRUM, dtype=torch.float32))
    first, again, other = (
        density(operator, num_probes=2, num_steps=5, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.nodes, again.nodes)
    assert not np.array_equal(first.nodes, other.nodes)
    assert not np.array_equal(first.nodes[0], first.nodes[1])


def test_refuses_nothing_to_do():
    with pytest.raises(InputError, match="at least 1 probe and 1 step, found 0 and 3"):
        density(MatrixOperator(symmetric(SPECTRUM)), num_probes=0, num_steps=3, seed=0)


def test_refuses_a_width_of_zero():
    result = density(MatrixOperator(symmetric(SPECTRUM)), num_probes=1, num_steps=2, seed=0)
    with pytest.raises(InputError, match="width above 0, found 0"):
        result.smoothed(np.zeros(1), 0)
