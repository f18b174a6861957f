"""Holm's procedure against statsmodels."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from ntpctp._core.errors import InputError
from ntpctp.statistics import holm, holm_of_known


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


def test_unknown_p_values_stay_unknown_and_are_not_counted():
    assert holm_of_known([0.01, None, 0.03]) == pytest.approx([0.02, None, 0.03])
    assert holm_of_known([None, None]) == [None, None] and holm_of_known([]) == []
