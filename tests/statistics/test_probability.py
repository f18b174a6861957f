"""win_probability against SciPy's Mann-Whitney statistic and its own equation."""

import numpy as np
import pytest
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp.statistics import win_probability

A, B = np.array([3.0, 1, 2, 5, 5]), np.array([2.0, 2, 4, 0])


def test_estimate_is_mann_whitney():
    reference = stats.mannwhitneyu(A, B).statistic / 20
    assert win_probability(A, B).estimate == pytest.approx(reference, rel=1e-12)


def test_ends_solve_newcombes_equation():
    result = win_probability(A, B, level=0.9)
    for theta in (result.low, result.high):
        m = 3.5
        variance = theta * (1 - theta) / 20
        variance *= 1 + m * (1 - theta) / (2 - theta) + m * theta / (1 + theta)
        assert abs(theta - result.estimate) == pytest.approx(
            stats.norm.ppf(0.95) * np.sqrt(variance), rel=1e-9
        )
    assert result.low < result.estimate < result.high


def test_one_value_each_is_wilsons_interval():
    # With one pair the variance is that of one binomial trial.
    result = win_probability([1.0], [0.0])
    wilson = stats.binomtest(1, 1).proportion_ci(method="wilson")
    assert (result.low, result.high) == pytest.approx((wilson.low, 1.0), rel=1e-9)


def test_seeds_that_all_agree_leave_a_width():
    assert win_probability([3.0, 4, 5], [0.0, 1, 2]).low < 0.6
    assert win_probability([0.0, 1, 2], [3.0, 4, 5]).high > 0.4


@pytest.mark.parametrize("a", [A, A + 10, A - 10])
def test_swapping_mirrors(a):
    forward, backward = win_probability(a, B), win_probability(B, a)
    mirrored = (1 - forward.estimate, 1 - forward.high, 1 - forward.low)
    assert tuple(backward) == pytest.approx(mirrored, abs=1e-9)


@pytest.mark.parametrize(("num_seeds", "low", "high"), [(3, 0.89, 0.99), (10, 0.93, 0.985)])
def test_coverage(num_seeds, low, high):
    rng = np.random.default_rng(num_seeds)
    for theta in (0.5, 0.75, 0.95):
        shift = np.sqrt(2) * stats.norm.ppf(theta)
        hits = 0
        for _ in range(1000):
            a, b = rng.standard_normal((2, num_seeds))
            result = win_probability(a + shift, b)
            hits += result.low <= theta <= result.high
        assert low < hits / 1000 < high


def test_seed_level_scores_only():
    with pytest.raises(InputError, match="b: expected an array with 1 axes"):
        win_probability(A, [[1.0]])
