"""Curves against closed forms, loops and statsmodels' survival analysis."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from ntpctp._core.errors import InputError
from ntpctp.statistics import (
    area_between,
    censored_times,
    compare_times_to_target,
    difference_at,
    paired_difference,
    times_to_target,
)
from ntpctp.statistics.curves import TimesToTarget


def generator(seed=0):
    return np.random.default_rng(seed)


STEPS = np.array([0.0, 100, 150, 400])
A = np.array([[0.0, 0.4, 0.6, 0.9], [0.1, 0.2, 0.8, 0.7], [0.0, 0.1, 0.2, 0.3]])
B = np.array([[0.0, 0.2, 0.2, 0.8], [0.0, 0.1, 0.3, 0.9], [0.1, 0.2, 0.1, 0.2]])


def test_area_is_the_integral_of_the_straight_lines():
    result = area_between(STEPS, A, B, generator())
    fine = np.linspace(0, 400, 400_001)  # a multiple of every checkpoint
    heights = [
        np.interp(fine, STEPS, a) - np.interp(fine, STEPS, b) for a, b in zip(A, B, strict=True)
    ]
    per_seed = np.array([h.mean() - (h[0] + h[-1]) / 2 / len(h) for h in heights])
    assert result.estimate == pytest.approx(per_seed.mean(), rel=1e-5)  # the grid's own error
    assert result.num_seeds == 3 and result.low < result.estimate < result.high


def test_area_of_a_constant_gap_is_the_gap():
    result = area_between(STEPS, A + 0.25, A, generator())
    assert result.estimate == pytest.approx(0.25, rel=1e-12)


def test_difference_at_matched_tokens_by_hand():
    tokens_a, tokens_b = STEPS * 10, STEPS * 4  # A sees more tokens a step
    found = difference_at(tokens_a, A, tokens_b, B, [1250.0, 1600.0], generator())
    a = [[0.5, 0.6 + 0.3 * 0.04], [0.5, 0.8 - 0.1 * 0.04], [0.15, 0.2 + 0.1 * 0.04]]
    b = [[0.2 + 0.6 * 0.65, 0.8], [0.3 + 0.6 * 0.65, 0.9], [0.1 + 0.1 * 0.65, 0.2]]
    for k in range(2):
        expected = paired_difference(np.array(a)[:, k], np.array(b)[:, k], generator())
        assert found[k].estimate == pytest.approx(expected.estimate, rel=1e-12)
        assert found[k].low == pytest.approx(expected.low, rel=1e-12)


def test_budgets_may_differ_from_seed_to_seed():
    own = STEPS * np.array([[1.0], [2.0], [3.0]])
    (found,) = difference_at(own, A, STEPS, B, [150.0], generator())
    a = [0.6, 0.175, 0.05]
    assert found.estimate == pytest.approx(np.mean(a) - B[:, 2].mean(), rel=1e-12)


def test_nothing_is_extrapolated():
    with pytest.raises(InputError, match=r"requested budgets 50 to 900.* from 0 to 400"):
        difference_at(STEPS, A, STEPS * 4, B, [50.0, 900.0], generator())


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_times_by_hand(higher_is_better):
    sign = 1 if higher_is_better else -1
    found = times_to_target(STEPS, sign * A, sign * 0.5, higher_is_better=higher_is_better)
    np.testing.assert_allclose(found.times, [125, 125, 400], rtol=1e-12)
    assert found.reached.tolist() == [True, True, False]
    assert found.median == pytest.approx(125)
    assert found.num_at_start == 0


def test_a_target_met_at_the_first_checkpoint_is_counted():
    found = times_to_target(STEPS, A, 0.1, higher_is_better=True)
    assert found.times[1] == 0 and found.num_at_start == 1
    assert found.times[0] == pytest.approx(25) and found.times[2] == pytest.approx(100)


def test_the_first_crossing_counts_even_if_the_curve_falls_again():
    found = times_to_target(STEPS, A[1:2], 0.75, higher_is_better=True)
    assert found.times[0] == pytest.approx(100 + 50 * 0.55 / 0.6)


def test_no_median_if_no_seed_reaches_the_target():
    found = times_to_target(STEPS, A, 2.0, higher_is_better=True)
    assert found.median is None and not found.reached.any()
    np.testing.assert_array_equal(found.times, 400)


TIMES = TimesToTarget(np.array([3.0, 5, 5, 8, 10]), np.array([1, 1, 0, 1, 0], bool), None, 0)
OTHERS = TimesToTarget(np.array([6.0, 7, 9, 10, 10]), np.array([1, 1, 1, 0, 0], bool), None, 0)


def test_median_is_kaplan_meier_of_statsmodels():
    # Curves that reach 1 at the wanted times: only the seeds' own budgets differ.
    for times in (TIMES, OTHERS):
        budgets = np.stack([np.zeros(len(times.times)), times.times], axis=1)
        curves = np.stack([np.zeros(len(times.times)), np.where(times.reached, 1.0, 0.5)], axis=1)
        found = times_to_target(budgets, curves, 1.0, higher_is_better=True)
        np.testing.assert_allclose(found.times, times.times)
        reference = SurvfuncRight(times.times, times.reached.astype(int)).quantile(0.5)
        assert found.median == pytest.approx(reference)


def test_half_of_the_seeds_are_enough_for_the_median():
    found = times_to_target(
        STEPS, np.array([[0, 0, 1.0, 1], [0, 0, 0, 0]]), 1.0, higher_is_better=True
    )
    assert found.median == 150


def test_log_rank_matches_statsmodels():
    result = compare_times_to_target(TIMES, OTHERS)
    reference = survdiff(
        np.concatenate([TIMES.times, OTHERS.times]),
        np.concatenate([TIMES.reached, OTHERS.reached]).astype(int),
        np.repeat([0, 1], 5),
    )
    assert result.p_value == pytest.approx(reference[1], rel=1e-10)
    assert 0.05 < result.p_value < 0.95
    assert compare_times_to_target(OTHERS, TIMES).p_value == pytest.approx(result.p_value)


def test_times_that_cannot_be_compared_have_a_reason():
    never = times_to_target(STEPS, A, 2.0, higher_is_better=True)
    result = compare_times_to_target(never, never)
    assert result.p_value is None
    assert result.reason == "no seed of either arm reached the target"
    one = times_to_target(STEPS, A[:1], 0.5, higher_is_better=True)
    assert "one seed" in compare_times_to_target(one, TIMES).reason


@pytest.mark.parametrize(
    ("budgets", "match"),
    [
        ([0.0, 1, 1, 2], "expected budgets that increase"),
        ([0.0, 1, 2], r"budgets: expected one budget per checkpoint of .* \(3, 4\), got \(3,\)"),
    ],
)
def test_bad_budgets_are_refused(budgets, match):
    with pytest.raises(InputError, match=match):
        area_between(budgets, A, B, generator())


def test_an_area_needs_two_checkpoints():
    with pytest.raises(InputError, match="at least two checkpoints, got 1"):
        area_between([5.0], A[:, :1], B[:, :1], generator())


def test_times_that_are_all_one_have_no_test():
    """Its variance is 0, and its p value would be no number: for instance all reached at step 0."""
    all_at_once = censored_times(np.zeros(3), np.ones(3, bool))
    found = compare_times_to_target(all_at_once, all_at_once)
    assert found.p_value is None and "at the same time" in found.reason


def test_arms_of_different_length_that_never_run_side_by_side_have_no_test():
    """One arm fails to reach the target in 200 steps, the other reaches it afterwards."""
    short = censored_times(np.full(3, 200.0), np.zeros(3, bool))
    long = censored_times(np.array([250.0, 300, 420]), np.ones(3, bool))
    for pair in ((short, long), (long, short)):
        found = compare_times_to_target(*pair)
        assert found.p_value is None
        assert found.reason == (
            "no seed reached the target while the other arm was still being trained"
        )


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_there_is_a_reason_exactly_where_the_test_has_no_number():
    rng, missing = np.random.default_rng(0), 0
    for _ in range(300):
        times = rng.integers(1, 4, (2, 2)).astype(float)
        reached = rng.random((2, 2)) < 0.6
        if not reached.any():
            continue
        data = [
            stats.CensoredData.right_censored(t, ~r) for t, r in zip(times, reached, strict=True)
        ]
        number = stats.logrank(*data).pvalue
        arms = [censored_times(t, r) for t, r in zip(times, reached, strict=True)]
        found = compare_times_to_target(*arms)
        assert (found.p_value is None) == np.isnan(number)
        assert (found.reason is None) == (found.p_value is not None)
        missing += found.p_value is None
    assert 10 < missing < 200
