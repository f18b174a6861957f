"""The bootstrap against enumeration, SciPy's BCa levels and the closed form of its variance."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp.statistics import bootstrap_interval
from ntpctp.statistics.bootstrap import acceleration, bca_quantiles, resample_means

D = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, 4.0]])  # (S, N) = (2, 3)


def generator(seed=0):
    return np.random.default_rng(seed)


def enumerated(d):
    """Reference: all S^S N^N equally likely resamples."""
    num_seeds, num_items = d.shape
    return np.array(
        [
            d[np.ix_(seeds, items)].mean()
            for seeds in product(range(num_seeds), repeat=num_seeds)
            for items in product(range(num_items), repeat=num_items)
        ]
    )


def test_resamples_have_the_enumerated_distribution():
    exact, drawn = enumerated(D), resample_means(D, generator(), 100_000)
    assert drawn.mean() == pytest.approx(exact.mean(), abs=5 * exact.std() / 300)
    assert drawn.std() == pytest.approx(exact.std(), rel=0.02)
    # Every value of one is a value of the other, up to rounding.
    np.testing.assert_allclose(
        np.unique(drawn.round(9)), np.unique(exact.round(9)), rtol=0, atol=1e-8
    )


def test_variance_has_the_closed_form_that_paired_difference_argues_with():
    num_seeds, num_items = D.shape
    rows, columns = D.mean(axis=1), D.mean(axis=0)
    rest = D - rows[:, None] - columns + D.mean()
    closed = rows.var() / num_seeds + columns.var() / num_items
    closed += rest.var() / (num_seeds * num_items)
    assert enumerated(D).var() == pytest.approx(closed, rel=1e-12)


def test_chunks_do_not_change_the_draws_of_seeds_only(monkeypatch):
    whole = resample_means(D[:, :1], generator(), 100)
    monkeypatch.setattr("ntpctp.statistics.bootstrap._CHUNK_WEIGHTS", 7)
    np.testing.assert_array_equal(resample_means(D[:, :1], generator(), 100), whole)
    assert len(resample_means(D, generator(), 100)) == 100


def test_bca_ends_are_scipys_for_one_sample():
    values = generator(1).exponential(size=12)
    reference = stats.bootstrap((values,), np.mean, method="BCa", rng=generator(2))
    found = bca_quantiles(
        reference.bootstrap_distribution,
        values.mean(),
        acceleration(values[:, None]),
        stats.norm.ppf(0.975),
    )
    # SciPy computes the acceleration by the jackknife, which for a mean is the same number.
    np.testing.assert_allclose(found, reference.confidence_interval, rtol=1e-9)


def test_acceleration_of_two_factors():
    u, v = D.mean(axis=1) - D.mean(), D.mean(axis=0) - D.mean()
    cubes = (u**3).sum() / 8 + (v**3).sum() / 27
    squares = (u**2).sum() / 4 + (v**2).sum() / 9
    assert acceleration(D) == pytest.approx(cubes / (6 * squares**1.5), rel=1e-12)
    assert acceleration(np.ones((3, 4))) == 0


def scores(num_seeds=10):
    rng = generator(3)
    return rng.exponential(size=(num_seeds, 40)), rng.exponential(size=(num_seeds, 40))


def test_interval_holds_the_estimate_and_knows_its_spread():
    a, b = scores()
    result = bootstrap_interval(a, b, generator())
    assert result.low < result.estimate < result.high
    assert result.estimate == pytest.approx((a - b).mean())
    d = a - b
    rest = d - d.mean(axis=1)[:, None] - d.mean(axis=0) + d.mean()
    variance = d.mean(axis=1).var() / 10 + d.mean(axis=0).var() / 40 + rest.var() / 400
    assert result.standard_error == pytest.approx(np.sqrt(variance), rel=0.03)  # 10,000 draws
    assert (result.num_seeds, result.num_items, result.reason) == (10, 40, None)


def test_seed_level_interval_is_wider_than_the_unexpanded_one():
    a, b = (x[:, 0] for x in scores())
    result = bootstrap_interval(a, b, generator())
    plain = stats.bootstrap((a - b,), np.mean, rng=generator()).confidence_interval
    assert result.low < plain.low and plain.high < result.high
    assert result.num_items is None


def test_swapping_arms_mirrors():
    a, b = scores()
    forward, backward = (bootstrap_interval(*x, generator()) for x in ((a, b), (b, a)))
    assert (backward.low, backward.high) == pytest.approx((-forward.high, -forward.low))


def test_same_generator_same_interval_and_other_seed_other_interval():
    first, second, other = (bootstrap_interval(*scores(), generator(s)) for s in (7, 7, 8))
    assert first == second
    assert first.low != other.low and first.high != other.high


def test_few_seeds_give_a_reason():
    result = bootstrap_interval(*scores(7), generator())
    assert result.low is result.high is result.standard_error is None
    assert "7 seeds: a bootstrap over fewer than 8" in result.reason


def test_no_spread_is_no_error():
    result = bootstrap_interval(np.ones((8, 3)), np.zeros((8, 3)), generator())
    assert (result.low, result.high) == (1, 1)


def test_bad_scores_are_refused():
    with pytest.raises(InputError, match="same seeds and items"):
        bootstrap_interval(np.ones((8, 3)), np.ones((8, 4)), generator())
