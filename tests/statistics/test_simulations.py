"""Coverage, false positives and power on simulated data with known effects.

2,000 simulations a case unless said otherwise: a rate of 95 % then has a standard error of 0.5
points. scripts/bench/intervals.py simulates the tables of the docstrings in full.
"""

from itertools import combinations

import numpy as np
import pytest
from scipy import special, stats
from statsmodels.stats.power import TTestPower

from ntpctp.statistics import (
    factor_effects,
    holm,
    paired_difference,
    verdict,
)
from ntpctp.statistics.difference import t_intervals

COUNT = 2000


def generator(*seed):
    return np.random.default_rng(seed)


def coverage(d, truth):
    """Share of the data sets (count, S, N) whose 95 % interval holds the truth."""
    found = t_intervals(d, 0.95)
    return np.mean((found.low <= truth) & (truth <= found.high))


def crossed(rng, num_seeds, seed_sd, item_sd, rest_sd, num_items=100):
    return (
        seed_sd * rng.standard_normal((COUNT, num_seeds, 1))
        + item_sd * rng.standard_normal((COUNT, 1, num_items))
        + rest_sd * rng.standard_normal((COUNT, num_seeds, num_items))
    )


SETTINGS = {  # standard deviations of seeds, items, interaction, as in the docstring's table
    "seeds": (1, 0.5, 1),
    "items": (0.03, 1, 0.3),
    "alike": (0.3, 0.3 * np.sqrt(20), 0.5),
    "interaction": (0, 0, 1),
}


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("setting", SETTINGS)
def test_gaussian_coverage(setting, num_seeds):
    rate = coverage(crossed(generator(num_seeds, 7), num_seeds, *SETTINGS[setting]), 0)
    # Where both factors matter alike, 3 seeds fall short by 1.4 percentage points.
    at_least = 0.92 if (setting, num_seeds) == ("alike", 3) else 0.93
    assert at_least <= rate <= 0.97


def test_many_data_sets_at_once_are_each_that_of_paired_difference():
    d = crossed(generator(1), 4, 1, 1, 1, num_items=7)[:20]
    found = t_intervals(d, 0.9)
    for k in range(20):
        one = paired_difference(d[k], np.zeros_like(d[k]), generator(), level=0.9)
        ends = one.low, one.high, one.standard_error, one.degrees_of_freedom
        assert ends == pytest.approx([x[k] for x in (*found[1:5],)], rel=1e-12)


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_coverage_of_right_and_wrong_items_with_a_known_effect(num_seeds):
    rng = generator(num_seeds, 11)
    items = rng.standard_normal((COUNT, 1, 100))

    def right(log_odds):
        logits = log_odds + 0.5 * rng.standard_normal((COUNT, num_seeds, 1)) + items
        return rng.random(logits.shape) < special.expit(logits)

    d = right(1.0).astype(float) - right(0.3)
    # The mean of expit over a normal of variance 0.25 + 1: Gauss-Hermite quadrature.
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    mean_a, mean_b = (special.expit(s + np.sqrt(1.25) * nodes) @ weights for s in (1.0, 0.3))
    truth = (mean_a - mean_b) / weights.sum()
    assert 0.1 < truth < 0.2
    # 3 seeds fall short by 1.5 points, as the docstring says.
    assert (0.92 if num_seeds == 3 else 0.93) <= coverage(d, truth) <= 0.97


def test_coverage_of_collapsing_seeds_is_as_low_as_the_docstring_says():
    rng = generator(5)
    accuracy_b = np.where(rng.random((COUNT, 3, 1)) < 0.2, 0.0, 0.9)
    a, b = (rng.random((COUNT, 3, 100)) < p for p in (0.9, accuracy_b))
    # No seed collapses with probability 0.8^3 = 0.51, and then the interval misses the truth.
    assert 0.48 < coverage(a.astype(float) - b, 0.9 - 0.8 * 0.9) < 0.57


def test_a_cut_interval_holds_the_truth_as_often_as_the_uncut_one():
    """Scores of 0 and 1 by the seed, half of each: intervals of three seeds leave [-1, 1]."""
    rng = generator(6)
    cut_matters = 0
    for a, b in (rng.random((200, 2, 3)) < [[0.9], [0.3]]).astype(float):
        free, cut = (paired_difference(a, b, rng, largest=r) for r in (np.inf, 1))
        if free.low is None:  # all seeds alike
            continue
        assert (free.low <= 0.6 <= free.high) == (cut.low <= 0.6 <= cut.high)
        cut_matters += (free.low, free.high) != (cut.low, cut.high)
    assert cut_matters > 50


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("num_arms", [3, 5])
def test_equal_arms_have_a_winner_in_at_most_one_family_in_twenty(num_arms, num_seeds):
    """The verdict as it is given: Holm's p value and an interval without 0 are both required."""
    rng = generator(num_arms, num_seeds)
    scores = rng.standard_normal((COUNT, num_arms, num_seeds))
    scores += rng.standard_normal((COUNT, 1, num_seeds))  # arms share seeds
    pairs = list(combinations(range(num_arms), 2))
    d = np.stack([scores[:, i] - scores[:, j] for i, j in pairs], axis=1)
    p_values = stats.ttest_1samp(d, 0, axis=2).pvalue
    families = alone = 0
    for k in np.flatnonzero(p_values.min(axis=1) <= 0.05):
        alone += 1
        adjusted = holm(p_values[k])
        families += any(
            verdict(
                paired_difference(scores[k, i], scores[k, j], rng),
                higher_is_better=True,
                margin=None,
                adjusted_p_value=p,
            ).decision
            == "better"
            for (i, j), p in zip(pairs, adjusted, strict=True)
            if p <= 0.06
        )
    assert families / COUNT <= 0.062  # 0.05 and 2.5 standard errors
    assert families / COUNT >= 0.015  # the correction is not absurdly careful
    assert alone / COUNT > 0.09  # without it, one in eleven families or more


def test_an_effect_of_the_detectable_size_is_called_in_four_of_five():
    rng = generator(9)
    called = 0
    # In standard deviations of the difference, which is sqrt(2) here.
    effect = np.sqrt(2) * TTestPower().solve_power(nobs=5, alpha=0.05, power=0.8)
    for a, b in rng.standard_normal((COUNT, 2, 5)):
        difference = t_intervals((a + effect - b)[:, None], 0.95)
        called += difference.low > 0
    assert called / COUNT == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_effects_of_a_grid_are_covered(num_seeds):
    """700 simulations: standard errors of 0.8 points."""
    rng = generator(num_seeds, 3)
    truths, hits = (-0.5, -0.2, 0.6), np.zeros(3)
    for _ in range(700):
        common = rng.standard_normal(num_seeds)
        cells = {
            (x, y): common + 0.5 * (x == "b") + 0.2 * (y == "b") + 0.3 * (x == y)
            + rng.standard_normal(num_seeds)
            for x in "ab"
            for y in "ab"
        }  # fmt: skip
        for k, effect in enumerate(factor_effects(cells, ("x", "y"), rng)):
            hits[k] += effect.difference.low <= truths[k] <= effect.difference.high
    assert (hits / 700 > 0.925).all() and (hits / 700 < 0.975).all()
