"""standardised_effect against its closed form and SciPy's noncentral t."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import gamma

from ntpctp._core.errors import InputError
from ntpctp.statistics import standardised_effect

D = np.array([0.5, 1.5, -0.3, 0.9, 0.4, 1.1])


def test_estimate_is_hedges_g():
    correction = gamma(2.5) / (np.sqrt(2.5) * gamma(2))
    expected = correction * D.mean() / D.std(ddof=1)
    assert standardised_effect(D).estimate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("values", [D, D - 1.2, D - D.mean(), 5 + D, 5 - D])
def test_ends_have_the_observed_t_as_their_quantiles(values):
    t, df = stats.ttest_1samp(values, 0).statistic, len(values) - 1
    result = standardised_effect(values, level=0.9)
    scale = gamma(2.5) / (np.sqrt(2.5) * gamma(2)) / np.sqrt(len(values))
    assert stats.nct.sf(t, df, result.low / scale) == pytest.approx(0.05, rel=1e-6)
    assert stats.nct.cdf(t, df, result.high / scale) == pytest.approx(0.05, rel=1e-6)


def test_unbiased_for_gaussian_differences():
    samples = 0.8 + np.random.default_rng(0).standard_normal((4000, 4))
    found = [standardised_effect(d).estimate for d in samples]
    assert np.mean(found) == pytest.approx(0.8, abs=4 * np.std(found) / np.sqrt(4000))


def test_swapping_mirrors():
    forward, backward = standardised_effect(D), standardised_effect(-D)
    assert backward.estimate == -forward.estimate
    assert (backward.low, backward.high) == (-forward.high, -forward.low)


@pytest.mark.parametrize(
    ("values", "match"),
    [([1.0, 2.0], "2 seeds: at least 3"), ([1.0], "1 seed: at least 3"), ([0.1] * 5, "no spread")],
)
def test_what_cannot_be_computed_has_a_reason(values, match):
    result = standardised_effect(values)
    assert result.estimate is result.low is result.high is None
    assert match in result.reason


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="differences: 1 of 2 values"):
        standardised_effect([1.0, np.nan])
