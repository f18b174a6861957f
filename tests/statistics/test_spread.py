"""spread against enumeration written out, and the size of its test against the docstring."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp.statistics import describe_spread, spread
from ntpctp.statistics.spread import deviations

A = np.array([0.9, 0.1, 0.7, 0.95, 0.2])
B = np.array([0.52, 0.5, 0.55, 0.4, 0.49])


def generator(seed=0):
    return np.random.default_rng(seed)


def test_description():
    result = describe_spread(A)
    assert (result.num_seeds, result.min, result.max, result.median) == (5, 0.1, 0.95, 0.7)
    assert result.mean == pytest.approx(0.57)
    assert result.standard_deviation == pytest.approx(np.std(A, ddof=1))
    assert result.median_absolute_deviation == pytest.approx(stats.median_abs_deviation(A))
    assert describe_spread([1.0]).standard_deviation is None


def test_structural_zero_of_an_odd_sample_is_removed():
    np.testing.assert_allclose(np.sort(deviations(A)), np.sort([0.2, 0.6, 0.25, 0.5]))


def test_structural_pair_of_an_even_sample_is_rotated():
    # Median 2.5: deviations 1.5, 0.5, 0.5, 7.5; the middle pair becomes 0.5 sqrt(2) and 0.
    found = np.sort(deviations(np.array([10.0, 1, 3, 2])))
    np.testing.assert_allclose(found, [0.5 * np.sqrt(2), 1.5, 7.5])


def enumerated_p_value(a, b):
    z = np.concatenate([deviations(a), deviations(b)])
    m = len(a) - 1
    observed = z[:m].mean() - z[m:].mean()
    statistics = np.array(
        [
            z[list(chosen)].mean() - np.delete(z, chosen).mean()
            for chosen in combinations(range(len(z)), m)
        ]
    )
    above = np.mean(statistics >= observed - 1e-12)
    below = np.mean(statistics <= observed + 1e-12)
    return min(1, 2 * min(above, below)), len(statistics)


@pytest.mark.parametrize(("a", "b"), [(A, B), (B, A), (A, B[:4]), (A * 0.2, np.append(B, 0.9))])
def test_p_value_is_the_enumerated_one(a, b):
    p_value, num_arrangements = enumerated_p_value(a, b)
    result = spread(a, b, generator())
    assert result.p_value == pytest.approx(p_value, rel=1e-12)
    assert result.smallest_p_value == pytest.approx(2 / num_arrangements)
    assert f"all {num_arrangements} arrangements" in result.method
    assert result.sd_ratio == pytest.approx(np.std(a, ddof=1) / np.std(b, ddof=1))


@pytest.mark.parametrize("sizes", [(10, 10), (9, 10)])
def test_all_arrangements_of_ten_seeds_against_scipy(sizes):
    a, b = (generator(k).standard_normal(size) * (1 + k) for k, size in enumerate(sizes))
    expected = stats.permutation_test(
        (deviations(a), deviations(b)),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        vectorized=True,
        n_resamples=50_000,
    )
    result = spread(a, b, generator())
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-12)
    assert result.smallest_p_value == pytest.approx(2 / len(expected.null_distribution))


@pytest.mark.parametrize("sizes", [(12, 12), (8, 20), (20, 8)])
def test_random_arrangements_estimate_the_p_value_of_all(sizes):
    a, b = (scale * generator(k).standard_normal(sizes[k]) for k, scale in enumerate((1, 1.7)))
    found = [spread(a, b, generator(seed)).p_value for seed in range(20)]
    expected = stats.permutation_test(
        (deviations(a), deviations(b)),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        vectorized=True,
        n_resamples=100_000,
        rng=0,
    ).pvalue
    # 20 times 9,999 arrangements: a standard error of 0.2 % of the larger share, doubled.
    assert np.mean(found) == pytest.approx(expected, abs=0.008)


def test_the_wider_arm_is_told_apart_and_its_level_does_not_matter():
    assert spread(A, B, generator()).p_value == pytest.approx(2 / 70)
    assert spread(A, B + 100, generator()).p_value == pytest.approx(2 / 70)
    assert spread(B, B + 100, generator()).p_value > 0.8  # 1 but for rounding of the ties


def test_names_are_kept_with_their_arms():
    result = spread(A, B, generator(), names=("ctp", "ntp"))
    assert result.names == ("ctp", "ntp")
    assert result.a == describe_spread(A) and result.b == describe_spread(B)


def test_random_arrangements_are_reproducible():
    a, b = generator(1).standard_normal((2, 12))
    first, second, other = (spread(a, b, generator(seed)) for seed in (4, 4, 5))
    assert first == second
    assert first.p_value != other.p_value
    assert first.smallest_p_value == 2 / 10_000
    assert "random 9999" in first.method


@pytest.mark.parametrize(("num_a", "match"), [(1, "1 seed in an arm"), (2, "2 seeds in an arm")])
def test_too_few_seeds_give_a_reason(num_a, match):
    result = spread(A[:num_a], B, generator())
    assert result.p_value is None and result.smallest_p_value is None
    assert match in result.reason


def test_constant_arm_has_no_ratio():
    assert spread(A, np.ones(5), generator()).sd_ratio is None


def test_seed_level_scores_only():
    with pytest.raises(InputError, match="a: expected an array with 1 axes"):
        spread(np.ones((3, 4)), B, generator())


@pytest.mark.parametrize(("num_seeds", "low", "high"), [(5, 0.012, 0.035), (10, 0.035, 0.065)])
def test_size_under_the_null(num_seeds, low, high):
    rng = generator(num_seeds)
    num_experiments, num_values = 4000, num_seeds - 1
    samples = rng.standard_normal((num_experiments, 2, num_seeds))
    z = np.array([np.concatenate([deviations(a), deviations(b)]) for a, b in samples])
    # The same permutation test for all experiments at once, on at most 2,000 arrangements.
    chosen = np.array(list(combinations(range(2 * num_values), num_values)))
    if len(chosen) > 2000:
        chosen = rng.permutation(chosen)[:2000]
    masks = np.zeros((len(chosen), 2 * num_values))
    np.put_along_axis(masks, chosen, 1, axis=1)
    statistic = np.abs(2 * z @ masks.T - z.sum(axis=1, keepdims=True))
    observed = np.abs(2 * z[:, :num_values].sum(axis=1) - z.sum(axis=1))
    p_values = np.mean(statistic >= observed[:, None] * (1 - 1e-9), axis=1)
    assert low < np.mean(p_values <= 0.05) < high


def test_equal_values_have_no_spread_whatever_the_rounding():
    """0.1 three times has a mean of 0.10000000000000002, and deviations from it."""
    for value, count in ((0.1, 3), (0.7, 6), (1e9 / 3, 7)):
        found = describe_spread([value] * count)
        assert (found.mean, found.standard_deviation) == (value, 0.0)
    compared = spread([0.7] * 6, [0.1] * 6, np.random.default_rng(0))
    assert compared.sd_ratio is None and compared.p_value == 1
