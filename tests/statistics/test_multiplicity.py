"""Holm's procedure against statsmodels; all pairs against one pair at a time."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from ntpctp._core.errors import InputError
from ntpctp.statistics import all_pairs, holm, paired_difference


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    "p_values",
    [[0.04, 0.01, 0.03, 0.2], [0.01, 0.01, 0.02], [0.5], [0.9, 0.8, 1.0, 0.0], [0.02, 0.011, 0.3]],
)
def test_holm_matches_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(holm(p_values), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("p_values", "match"),
    [([0.1, 1.2], "got 0.1 to 1.2"), ([-0.1], "got -0.1"), ([np.nan], "NaN"), ([], "at least one")],
)
def test_holm_refuses_what_is_no_p_value(p_values, match):
    with pytest.raises(InputError, match=match):
        holm(p_values)


def test_all_pairs_in_order_with_adjusted_p_values():
    rng = generator(1)
    scores = {
        name: shift + rng.standard_normal((5, 20))
        for name, shift in [("ntp", 0), ("ctp", 0.5), ("mtp", 1.0)]
    }
    found = all_pairs(scores, generator())
    assert [pair.names for pair in found] == [("ntp", "ctp"), ("ntp", "mtp"), ("ctp", "mtp")]
    for pair in found:
        first, second = pair.names
        assert pair.difference == paired_difference(scores[first], scores[second], generator())
    expected = multipletests([pair.difference.p_value for pair in found], method="holm")[1]
    np.testing.assert_allclose([pair.holm_p_value for pair in found], expected, rtol=1e-12)


def test_one_seed_has_no_p_values_to_adjust():
    found = all_pairs({"x": np.ones((1, 3)), "y": np.zeros((1, 3))}, generator())
    assert found[0].holm_p_value is None
    assert replace(found[0].difference).estimate == 1


def test_one_arm_is_no_comparison():
    with pytest.raises(InputError, match="at least two arms to compare, got 1"):
        all_pairs({"x": [1.0]}, generator())


def test_ten_arms_of_ten_seeds_and_ten_thousand_items_are_small():
    scores = {f"arm {k}": generator(k).random((10, 10_000)) < 0.8 for k in range(10)}
    tracemalloc.start()
    found = all_pairs(scores, generator())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 45
    assert peak < 100e6  # measured: 5 MB
