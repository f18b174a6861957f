"""False-positive rate and coverage against enumeration and on data that must come out."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from ntpctp.errors import InputError
from ntpctp.statistics import coverage, false_positive_rate


def generator(seed=0):
    return np.random.default_rng(seed)


RUNS = np.array([0.1, 0.15, 0.9, 1.4, 0.2])


def test_false_positives_of_one_arm_are_the_enumerated_ones():
    rejected = [
        stats.ttest_rel(RUNS[list(p[:2])], RUNS[list(p[2:])]).pvalue < 0.3
        for p in permutations(range(5), 4)
    ]
    assert 0.05 < np.mean(rejected) < 0.95
    result = false_positive_rate(RUNS, 2, generator(), level=0.7, num_experiments=4000)
    assert result.low < np.mean(rejected) < result.high
    assert result.rate == pytest.approx(np.mean(rejected), abs=0.03)
    assert result.nominal == pytest.approx(0.3)
    assert (result.num_seeds, result.num_stored, result.num_experiments) == (2, 5, 4000)


def test_coverage_of_a_tiny_population_is_the_enumerated_one():
    d = np.array([0.0, 1.0, 3.0])
    held = []
    for drawn in product(d, repeat=2):
        half_width = stats.t.ppf(0.75, 1) * np.std(drawn, ddof=1) / np.sqrt(2)
        held.append(abs(np.mean(drawn) - d.mean()) <= half_width)
    assert 0.1 < np.mean(held) < 0.9
    result = coverage(d, np.zeros(3), 2, generator(), level=0.5, num_experiments=4000)
    assert result.low < np.mean(held) < result.high
    assert result.nominal == 0.5


def test_its_own_interval_is_clopper_and_pearson():
    result = false_positive_rate(RUNS, 2, generator(), level=0.7, num_experiments=300)
    exact = stats.binomtest(result.count, 300).proportion_ci(method="exact")
    assert (result.low, result.high) == pytest.approx((exact.low, exact.high))


def test_honest_on_gaussian_runs():
    rng = generator(1)
    runs = rng.standard_normal((200, 1)) + 0.5 * rng.standard_normal((200, 30))
    false_positives = false_positive_rate(runs, 5, generator(), num_experiments=2000)
    assert 0.03 < false_positives.rate < 0.07
    b = rng.standard_normal((200, 30))
    held = coverage(runs, b, 5, generator(), num_experiments=2000)
    assert 0.93 < held.rate < 0.97


def test_too_sure_an_interval_is_caught():
    # Seeds that collapse now and then: the truth is missed far more often than 1 in 20.
    runs = np.where(np.arange(100) < 10, 0.0, 0.9)[:, None] + 0.01 * generator().random((100, 1))
    result = coverage(runs[:, 0], np.zeros(100), 3, generator(), num_experiments=1000)
    assert result.high < 0.6


def test_equal_runs_are_held_whatever_the_rounding():
    result = coverage(np.full((4, 7), 0.1), np.full((4, 7), 0.3), 3, generator())
    assert result.rate == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda rng: false_positive_rate(RUNS, 2, rng, level=0.7),
        lambda rng: coverage(RUNS, RUNS[::-1] ** 2, 3, rng, level=0.7),
    ],
)
def test_same_generator_same_rate_and_other_seed_other_rate(function):
    first, second, other = (function(generator(seed)) for seed in (1, 1, 2))
    assert first == second
    assert first.count != other.count


@pytest.mark.parametrize(
    ("num_seeds", "match"), [(3, "at least 6 stored seeds, got 5"), (1, "needs num_seeds >= 2")]
)
def test_too_few_stored_seeds_are_refused(num_seeds, match):
    with pytest.raises(InputError, match=match):
        false_positive_rate(RUNS, num_seeds, generator())


def test_coverage_needs_two_seeds():
    with pytest.raises(InputError, match="needs at least 2, got 1"):
        coverage(RUNS, RUNS, 1, generator())
