"""Shares against statsmodels and closed forms, McNemar against statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.proportion import proportion_confint

from ntpctp._core.errors import InputError
from ntpctp.statistics import mcnemar, share, share_reaching


@pytest.mark.parametrize(("count", "total"), [(0, 3), (2, 3), (3, 3), (7, 20)])
def test_intervals_match_statsmodels(count, total):
    result = share(count, total, level=0.9)
    wilson = proportion_confint(count, total, 0.1, method="wilson")
    exact = proportion_confint(count, total, 0.1, method="beta")
    np.testing.assert_allclose((result.wilson_low, result.wilson_high), wilson, atol=1e-12)
    np.testing.assert_allclose((result.exact_low, result.exact_high), exact, atol=1e-9)
    assert result.estimate == count / total


def test_exact_interval_of_all_successes_in_closed_form():
    assert share(3, 3).exact_low == pytest.approx(0.025 ** (1 / 3), rel=1e-9)


@pytest.mark.parametrize(("higher_is_better", "count"), [(True, 3), (False, 2)])
def test_target_itself_is_reached(higher_is_better, count):
    found = share_reaching([0.1, 0.5, 0.9, 0.8], 0.5, higher_is_better=higher_is_better)
    assert (found.count, found.total) == (count, 4)


@pytest.mark.parametrize(("count", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_refused(count, total):
    with pytest.raises(InputError, match=f"got {count} of {total}"):
        share(count, total)


def test_mcnemar_matches_statsmodels_in_every_seed():
    rng = np.random.default_rng(0)
    a, b = rng.random((3, 40)) < 0.8, rng.random((3, 40)) < 0.6
    found = mcnemar(a, b)
    assert len(found) == 3
    for test, x, y in zip(found, a, b, strict=True):
        table = [[(x & y).sum(), (x & ~y).sum()], [(~x & y).sum(), (~x & ~y).sum()]]
        assert test.p_value == pytest.approx(reference_mcnemar(table).pvalue, rel=1e-12)
        assert (test.num_only_a, test.num_only_b) == (table[0][1], table[1][0])
        assert test.num_items == 40
    assert [(t.num_only_b, t.num_only_a) for t in mcnemar(b, a)] == [t[:2] for t in found]


def test_mcnemar_without_disagreement():
    assert mcnemar([[1, 0]], [[1, 0]])[0].p_value == 1


def test_mcnemar_is_the_binomial_test():
    (test,) = mcnemar([[1, 1, 1, 1, 0, 1]], [[0, 0, 0, 0, 1, 1]])
    assert test.p_value == pytest.approx(stats.binomtest(4, 5).pvalue) == pytest.approx(12 / 32)


@pytest.mark.parametrize(
    ("a", "match"), [([[0.5]], "right or wrong"), ([1.0], r"\(seeds, items\) arrays")]
)
def test_mcnemar_wants_right_or_wrong(a, match):
    with pytest.raises(InputError, match=match):
        mcnemar(a, a)
