"""verdict against hand-made intervals, and its planning numbers against statsmodels and loops."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from ntpctp._core.errors import InputError
from ntpctp.statistics import (
    num_seeds_needed,
    paired_difference,
    smallest_detectable_difference,
    verdict,
)


def difference(values, **changes):
    values = np.asarray(values, dtype=float)
    result = paired_difference(values, np.zeros_like(values), np.random.default_rng(0))
    return replace(result, **changes)


AROUND_ZERO = difference([-1.0, 2.0, -1.5, 1.0, 0.5])
NAMES = ("ctp", "ntp")


@pytest.mark.parametrize(
    ("low", "high", "higher_is_better", "margin", "words", "better"),
    [
        (0.1, 0.3, True, None, "ctp better", "a"),
        (0.1, 0.3, False, None, "ntp better", "b"),
        (-0.3, -0.1, True, None, "ntp better", "b"),
        (-0.3, -0.1, False, None, "ctp better", "a"),
        (0.1, 0.3, True, 0.2, "ctp better", "a"),
        (0.1, 0.3, True, 0.4, "no difference larger than 0.4", None),
        (-0.1, 0.3, True, 0.4, "no difference larger than 0.4", None),
        (-0.1, 0.1, True, 0.05, "the data do not say: ", None),
        (-0.5, 0.1, True, 0.4, "the data do not say: ", None),
        (-0.1, 0.5, True, 0.4, "the data do not say: ", None),
        (-0.1, 0.1, True, 0.1, "the data do not say: ", None),  # the margin itself is outside
        (0.0, 0.3, True, None, "the data do not say: ", None),  # as is zero
    ],
)
def test_words(low, high, higher_is_better, margin, words, better):
    estimate = (low + high) / 2
    given = replace(AROUND_ZERO, low=low, high=high, estimate=estimate)
    result = verdict(given, names=NAMES, higher_is_better=higher_is_better, margin=margin)
    assert result.words.startswith(words)
    assert result.better == better
    assert result.margin == margin
    assert result.num_seeds_needed is None or words.startswith("the data")


def test_decisions_have_one_key_each():
    cases = [(0.1, 0.2, 0.15), (0.1, 0.2, 0.3), (-0.1, 0.2, 0.15)]
    given = [(replace(AROUND_ZERO, low=x, high=y), m) for x, y, m in cases]
    given.append((difference([1.0]), 0.15))
    found = [verdict(d, higher_is_better=True, margin=m) for d, m in given]
    assert found[-1].words == "one seed: no verdict" and found[-1].better is None
    decisions = [one.decision for one in found]
    assert decisions == ["better", "no difference", "undecided", "one seed"]


@pytest.mark.parametrize("margin", [0.8, 1.0, 1.5])
def test_equivalence_is_tost_at_two_and_a_half_percent(margin):
    values = np.array([0.3, -0.4, 0.6, 0.1, -0.2, 0.5])
    result = verdict(difference(values), higher_is_better=True, margin=margin)
    p_value = ttost_paired(values, np.zeros(6), -margin, margin)[0]
    assert (result.decision == "no difference") == (p_value < 0.025)


def test_tost_cases_fall_on_both_sides():
    values = np.array([0.3, -0.4, 0.6, 0.1, -0.2, 0.5])
    decisions = {
        verdict(difference(values), higher_is_better=True, margin=m).decision for m in (0.3, 1.5)
    }
    assert decisions == {"undecided", "no difference"}


def test_seeds_needed_is_the_first_t_interval_that_excludes_zero():
    values = [0.3, -0.5, 0.9, 0.2, -0.1]
    d, s = np.mean(values), np.std(values, ddof=1)
    reference = next(n for n in range(2, 1000) if d > stats.t.ppf(0.975, n - 1) * s / np.sqrt(n))
    result = verdict(difference(values), higher_is_better=True, margin=None)
    assert result.num_seeds_needed == reference > 5
    assert result.words == f"the data do not say: about {reference} seeds needed"


def test_seeds_needed_counts_the_equivalence_that_a_margin_makes_possible():
    values = [0.3, -0.5, 0.9, 0.2, -0.1]
    d, s = np.mean(values), np.std(values, ddof=1)
    reference = next(
        n for n in range(2, 1000) if stats.t.ppf(0.975, n - 1) * s / np.sqrt(n) < 0.7 - d
    )
    assert num_seeds_needed(difference(values), margin=0.7) == reference
    assert reference < num_seeds_needed(difference(values))


def test_seeds_needed_keeps_the_part_of_the_items():
    rng = np.random.default_rng(1)
    d = 0.25 + 0.5 * rng.standard_normal((4, 1)) + 0.4 * rng.standard_normal((1, 30))
    result = difference(d)
    s, v = result.seed_standard_deviation, result.item_variance
    assert v > 0

    def half_width(n):
        df = (s**2 / n + v) ** 2 / ((s**2 / n) ** 2 / (n - 1) + v**2 / 29)
        return stats.t.ppf(0.975, df) * np.sqrt(s**2 / n + v)

    reference = next(n for n in range(2, 1000) if half_width(n) < abs(result.estimate))
    assert num_seeds_needed(result) == reference
    # The same formula at the seeds there are is the interval there is.
    assert half_width(4) == pytest.approx(result.high - result.estimate, rel=1e-12)


def test_more_than_a_thousand_seeds_are_not_counted():
    values = np.array([1.0, -1.0, 0.5, -0.5, 0.01])
    result = verdict(difference(values), higher_is_better=True, margin=None)
    assert result.words == "the data do not say: more than 1000 seeds needed"
    assert result.num_seeds_needed is None


def test_items_can_be_what_is_missing():
    d = np.random.default_rng(1).standard_normal((1, 8)) + np.zeros((4, 1))
    result = verdict(difference(d), higher_is_better=True, margin=None)
    assert result.words == "the data do not say: more items needed, seeds alone do not suffice"


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_smallest_detectable_difference_has_the_power_it_says(num_seeds):
    values = np.random.default_rng(2).standard_normal(num_seeds)
    effect_size = TTestPower().solve_power(nobs=num_seeds, alpha=0.05, power=0.8)
    reference = effect_size * values.std(ddof=1)
    found = smallest_detectable_difference(difference(values))
    assert found == pytest.approx(reference, rel=1e-6)  # statsmodels stops at 1e-8 in power


def test_smallest_detectable_difference_by_simulation():
    rng = np.random.default_rng(3)
    delta = smallest_detectable_difference(difference([1.0, -1, 0.5, 2, -0.3]))
    sigma = np.std([1.0, -1, 0.5, 2, -0.3], ddof=1)
    samples = delta + sigma * rng.standard_normal((20_000, 5))
    power = np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05)
    assert power == pytest.approx(0.8, abs=0.01)  # three standard errors of the simulation


def test_nothing_is_detectable_without_spread_or_with_one_seed():
    assert smallest_detectable_difference(difference([1.0, 1.0, 1.0])) is None
    one = difference([1.0])
    assert smallest_detectable_difference(one) is None
    assert num_seeds_needed(one) is None


@pytest.mark.parametrize(("num_seeds", "better"), [(2, None), (5, None), (6, "a"), (9, "a")])
def test_equal_seeds_are_judged_by_the_exact_test(num_seeds, better):
    """Reference: SciPy's one-sample permutation test of signs."""
    values = np.full(num_seeds, 0.7)
    found = difference(values)
    reference = stats.permutation_test(
        (values, np.zeros(num_seeds)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    assert found.low is found.high is None
    assert found.reason == (
        f"all {num_seeds} seeds show the same difference: no spread from which an interval could "
        "be computed"
    )
    assert found.p_value == found.sign_flip_p_value == pytest.approx(reference.pvalue)
    decided = verdict(found, names=NAMES, higher_is_better=True, margin=0.9)
    assert decided.better == better
    assert decided.smallest_detectable_difference is None
    if better is None:
        assert decided.words == "the data do not say: about 6 seeds needed"
        assert decided.num_seeds_needed == 6
    # Among several pairs the exact p value is corrected like any other.
    several = verdict(
        found, higher_is_better=True, margin=None, adjusted_p_value=min(1, 6 * found.p_value)
    )
    assert several.better == ("a" if num_seeds == 9 else None)


def test_seeds_that_never_differ_say_nothing_about_others():
    for values in ([0.0, 0.0], [0.0] * 12):
        found = verdict(difference(values), higher_is_better=True, margin=0.1)
        assert found.words == "the data do not say: no seed shows a difference"
        assert (found.decision, found.num_seeds_needed) == ("undecided", None)


@pytest.mark.parametrize(("c", "margin"), [(0.8, None), (0.8, 0.9), (0.0, 0.1), (0.05, 0.2)])
def test_equal_seeds_of_a_bounded_score_need_as_many_as_decide(c, margin):
    """Reference: the bounded interval written out for every number of seeds."""

    def decides(n):
        others = 1 - 0.05 ** (1 / n)
        low, high = c - others * (1 + c), c + others * (1 - c)
        return low > 0 or (margin is not None and -margin < low and high < margin)

    needed = next(n for n in range(2, 1000) if decides(n))
    found = paired_difference([c] * 2, [0.0] * 2, np.random.default_rng(0), largest=1)
    assert num_seeds_needed(found, margin) == needed > 2
    enough = paired_difference([c] * needed, [0.0] * needed, np.random.default_rng(0), largest=1)
    assert verdict(enough, higher_is_better=True, margin=margin).decision in (
        "better",
        "no difference",
    )


@pytest.mark.parametrize("margin", [0.0, -0.1, np.nan, np.inf])
def test_margin_must_be_positive(margin):
    with pytest.raises(InputError, match="margin: expected a positive number"):
        verdict(AROUND_ZERO, higher_is_better=True, margin=margin)
