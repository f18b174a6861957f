"""sign_flip_test against SciPy's permutation test."""

import numpy as np
import pytest
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp.statistics import sign_flip_test


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    "differences",
    [[1.0, 2.0, -0.5], [-1.0, -2.0, 0.5], [0.3, -0.1, 0.2, 0.5, 0.4], [1.0, 1, 1, -1, 0, 2, 3, 1]],
)
def test_enumeration_matches_scipy(differences):
    d = np.array(differences)
    reference = stats.permutation_test(
        (d, np.zeros_like(d)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    result = sign_flip_test(d, generator())
    assert result.p_value == pytest.approx(reference.pvalue, rel=1e-12)
    assert result.exact and result.num_arrangements == 2 ** len(d)


def test_one_sided_data_give_the_smallest_p_value():
    for num_seeds, smallest in [(3, 0.25), (5, 0.0625), (10, 1 / 512)]:
        result = sign_flip_test(np.arange(1.0, num_seeds + 1), generator())
        assert result.p_value == result.smallest_p_value == smallest


def test_equal_sums_count_as_equal_however_rounded():
    # Without tolerance 0.1 + 0.2 + ... - ... misses arrangements with the same sum.
    d = np.array([0.1, 0.2, 0.3, -0.6, 0.7, 0.1])
    exact = sign_flip_test((d * 10).round(), generator()).p_value
    assert sign_flip_test(d, generator()).p_value == exact


def test_random_arrangements_are_reproducible_and_near_the_enumeration():
    d = 0.3 + generator(1).standard_normal(15)
    first, second, other = (sign_flip_test(d, generator(seed)) for seed in (7, 7, 8))
    assert first == second and not first.exact
    assert first.p_value != other.p_value
    exact = sign_flip_test(d, generator(), num_resamples=2**15)
    assert exact.exact
    # Five standard errors of 10,000 draws.
    assert first.p_value == pytest.approx(exact.p_value, abs=5 * 0.5 / 100)


def test_enumeration_longer_than_a_chunk_is_complete():
    d = np.arange(1.0, 18)  # 2^17 arrangements, two chunks
    result = sign_flip_test(d, generator(), num_resamples=2**17)
    assert result.exact and result.p_value == 2.0**-16


def test_empty_input_is_refused():
    with pytest.raises(InputError, match="differences: expected at least one value"):
        sign_flip_test([], generator())
