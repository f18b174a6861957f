"""paired_difference against SciPy's t tests, statsmodels' mean squares, and known effects."""

import tracemalloc
from dataclasses import asdict
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import anova_lm

from ntpctp._core.errors import InputError
from ntpctp.statistics import paired_difference, verdict


def generator(seed=0):
    return np.random.default_rng(seed)


def crossed(rng, seed_sd, item_sd, rest_sd, shape=(4, 6)):
    """Scores of two arms whose difference follows the crossed model with mean 0."""
    num_seeds, num_items = shape
    b = rng.standard_normal(shape)
    effect = seed_sd * rng.standard_normal((num_seeds, 1)) + item_sd * rng.standard_normal(
        (1, num_items)
    )
    return b + effect + rest_sd * rng.standard_normal(shape), b


def mean_squares(d):
    """Reference: two-way analysis of variance without replication, from least squares."""
    num_seeds, num_items = d.shape
    frame = pd.DataFrame(
        {
            "d": d.ravel(),
            "seed": np.repeat(np.arange(num_seeds), num_items),
            "item": np.tile(np.arange(num_items), num_seeds),
        }
    )
    table = anova_lm(smf.ols("d ~ C(seed) + C(item)", frame).fit())
    squares = table["sum_sq"] / table["df"]
    return squares["C(seed)"], squares["C(item)"], squares["Residual"]


def test_one_score_a_seed_is_the_paired_t_interval():
    a, b = generator().gamma(2, size=(2, 7))
    result = paired_difference(a, b, generator(), level=0.9)
    reference = stats.ttest_rel(a, b)
    interval = reference.confidence_interval(0.9)
    np.testing.assert_allclose((result.low, result.high), interval, rtol=1e-12)
    assert result.p_value == pytest.approx(reference.pvalue, rel=1e-12)
    assert result.standard_error == pytest.approx(stats.sem(a - b), rel=1e-12)
    assert result.seed_standard_deviation == pytest.approx((a - b).std(ddof=1), rel=1e-12)
    assert result.degrees_of_freedom == 6
    assert result.num_items is None and result.item_low is None and result.item_variance == 0
    assert result.level == 0.9 and result.num_seeds == 7 and result.reason is None


@pytest.mark.parametrize(("seed_sd", "item_sd", "rest_sd"), [(1, 2, 0.5), (0.2, 1, 1), (2, 0, 3)])
def test_matches_the_mean_squares_of_least_squares(seed_sd, item_sd, rest_sd):
    a, b = crossed(generator(0), seed_sd, item_sd, rest_sd)
    result = paired_difference(a, b, generator())
    seeds, items, rest = mean_squares(a - b)
    items_only = max(items - rest, 0)
    variance = (seeds + items_only) / a.size
    df = (seeds + items_only) ** 2 / (seeds**2 / 3 + items_only**2 / 5)
    half_width = stats.t.ppf(0.975, df) * np.sqrt(variance)
    mean = (a - b).mean()
    assert result.standard_error == pytest.approx(np.sqrt(variance), rel=1e-10)
    assert result.degrees_of_freedom == pytest.approx(df, rel=1e-10)
    assert result.item_variance == pytest.approx(items_only / a.size, rel=1e-10, abs=1e-15)
    expected = (mean, mean - half_width, mean + half_width)
    np.testing.assert_allclose((result.estimate, result.low, result.high), expected, rtol=1e-9)
    assert result.p_value == pytest.approx(
        2 * stats.t.sf(abs(mean) / np.sqrt(variance), df), rel=1e-9
    )


def test_both_terms_of_the_variance_were_exercised():
    cases = [crossed(generator(0), *sds) for sds in [(1, 2, 0.5), (2, 0, 3)]]
    with_items, without = (paired_difference(*case, generator()) for case in cases)
    assert with_items.item_variance > 0
    assert without.item_variance == 0


def test_equal_items_leave_the_t_interval_over_seeds_and_equal_seeds_that_over_items():
    d = generator().standard_normal(5)
    zeros = np.zeros((5, 8))
    over_seeds = paired_difference(zeros + d[:, None], zeros, generator())
    np.testing.assert_allclose(
        (over_seeds.low, over_seeds.high),
        stats.ttest_1samp(d, 0).confidence_interval(),
        rtol=1e-10,
    )
    over_items = paired_difference(zeros.T + d, zeros.T, generator())
    np.testing.assert_allclose(
        (over_items.low, over_items.high),
        stats.ttest_1samp(d, 0).confidence_interval(),
        rtol=1e-10,
    )


def test_item_interval_is_the_t_interval_over_items_with_seeds_fixed():
    a, b = crossed(generator(), 3, 1, 1)
    result = paired_difference(a, b, generator())
    reference = stats.ttest_rel(a.mean(axis=0), b.mean(axis=0)).confidence_interval()
    np.testing.assert_allclose((result.item_low, result.item_high), reference, rtol=1e-12)


def test_swapping_arms_mirrors():
    a, b = crossed(generator(), 1, 1, 1)
    forward, backward = (paired_difference(*x, generator()) for x in ((a, b), (b, a)))
    mirrored = (-forward.estimate, -forward.high, -forward.low, -forward.item_high)
    assert (backward.estimate, backward.low, backward.high, backward.item_low) == mirrored
    assert backward.p_value == forward.p_value
    assert backward.sign_flip_p_value == forward.sign_flip_p_value
    assert backward.probability_a_better == pytest.approx(1 - forward.probability_a_better)
    assert backward.probability_low == pytest.approx(1 - forward.probability_high)


def test_the_probability_compares_every_pair_of_seeds():
    a, b = [3.0, 1, 2, 5], [2.0, 2, 4, 0]
    result = paired_difference(a, b, generator())
    wins = sum((x > y) + (x == y) / 2 for x in a for y in b) / 16
    assert result.probability_a_better == pytest.approx(wins)
    assert result.probability_low < wins < result.probability_high


def test_one_seed_gives_no_interval_over_seeds_and_says_so():
    a, b = crossed(generator(), 1, 1, 1, (1, 20))
    result = paired_difference(a, b, generator())
    assert result.low is result.high is result.p_value is result.standard_error is None
    assert result.probability_a_better is result.sign_flip_p_value is None
    assert "one seed" in result.reason
    reference = stats.ttest_rel(a[0], b[0]).confidence_interval()
    np.testing.assert_allclose((result.item_low, result.item_high), reference, rtol=1e-12)
    assert paired_difference([1.0], [0.5], generator()).item_low is None


def test_one_item_falls_back_to_seeds_and_says_so():
    a, b = generator().standard_normal((2, 5, 1))
    result = paired_difference(a, b, generator())
    reference = stats.ttest_rel(a[:, 0], b[:, 0]).confidence_interval()
    np.testing.assert_allclose((result.low, result.high), reference, rtol=1e-12)
    assert "nothing covers other items" in result.method


@pytest.mark.parametrize("shape", [(3,), (3, 4)])
@pytest.mark.parametrize("c", [0.0, 0.3, -0.3])
def test_without_any_spread_there_is_no_interval(shape, c):
    found = paired_difference(np.full(shape, 0.1 + c), np.full(shape, 0.1), generator())
    assert found.low is found.high is found.item_low is None
    assert found.estimate == pytest.approx(c) and found.standard_error == 0
    assert found.p_value == (0.25 if c else 1)  # 2 / 2^3, and nothing is more extreme than 0
    assert "all 3 seeds show the same difference" in found.reason


@pytest.mark.parametrize("c", [0.0, 0.25, -0.25, 1.0])
@pytest.mark.parametrize(("shape", "count"), [((7,), 7), ((3, 20), 20)])
def test_without_any_spread_a_bounded_score_has_an_exact_bound(shape, count, c):
    """Reference: Clopper and Pearson's share of others, all of them as far away as can be."""
    b = np.zeros(shape) if c >= 0 else np.full(shape, -c)
    found = paired_difference(b + c, b, generator(), largest=1)
    others = stats.binomtest(0, count, alternative="less").proportion_ci(0.95).high
    low, high = (1 - others) * c - others, (1 - others) * c + others
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert found.reason is None and "exact binomial bound" in found.method

    def end(p):
        """Where the end next to 0 lies at the level 1 - p."""
        share = 1 - p ** (1 / count)
        return abs(c) - share * (1 + abs(c))

    if c:
        assert end(found.p_value) == pytest.approx(0, abs=1e-12)
        assert (found.p_value < 0.05) == (low > 0 or high < 0)
    else:
        assert found.p_value == 1


def test_a_bounded_interval_is_cut_and_nothing_else():
    a, b = np.array([0.9, 0.1, 1.0]), np.array([0.0, 0.1, 0.0])
    free, cut = (paired_difference(a, b, generator(), largest=r) for r in (np.inf, 1))
    assert free.low < 0 < 1 < free.high
    assert (cut.low, cut.high) == (free.low, 1)
    assert cut.method == f"{free.method}; cut at 1, the largest difference possible"
    differing = {k for k, v in asdict(cut).items() if v != asdict(free)[k]}
    assert differing == {"high", "largest", "method"}
    planned = [verdict(d, higher_is_better=True, margin=None) for d in (free, cut)]
    assert planned[0] == planned[1]
    mirrored = paired_difference(b, a, generator(), largest=1)
    assert (mirrored.low, mirrored.high) == (-cut.high, -cut.low)


def test_the_intervals_of_new_items_are_cut_too():
    a, b = np.array([[1.0, 1, 0]]), np.array([[0.0, 0, 0]])
    free, cut = (paired_difference(a, b, generator(), largest=r) for r in (np.inf, 1))
    assert free.item_high > 1 and cut.item_high == 1 and cut.item_low == free.item_low


def test_a_difference_above_the_largest_is_refused():
    with pytest.raises(InputError, match=r"expected no difference above 1, found 1\.5"):
        paired_difference([2.0, 1], [0.5, 1], generator(), largest=1)


def test_bools_are_scores():
    a, b = generator().random((2, 4, 30)) < [[[0.8]], [[0.6]]]
    assert paired_difference(a, b, generator()) == paired_difference(
        a.astype(float), b.astype(float), generator()
    )


def test_same_generator_same_result_and_other_seed_other_result():
    a, b = generator().standard_normal((2, 15))  # 2^15 sign vectors: too many to enumerate
    first, second, other = (paired_difference(a, b, generator(seed)) for seed in (7, 7, 8))
    assert first == second
    differing = [key for key, value in asdict(first).items() if asdict(other)[key] != value]
    assert differing == ["sign_flip_p_value"]


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), r"got shapes \(2, 3\) and \(2, 4\)"),
        (np.ones((2, 3, 1)), np.ones((2, 3, 1)), r"a: expected an array with 1 or 2 axes"),
        ([], [], "a: expected at least one value"),
        ([1.0, 2.0], [np.nan, np.inf], "b: 2 of 2 values are NaN or infinite"),
    ],
)
def test_bad_scores_are_named(a, b, match):
    with pytest.raises(InputError, match=match):
        paired_difference(a, b, generator())


def test_level_in_percent_is_refused():
    with pytest.raises(InputError, match=r"between 0 and 1 such as 0\.95, got 95"):
        paired_difference([1.0, 2], [1.0, 3], generator(), level=95)


def test_equal_arms_are_as_uncertain_as_their_items_are_few():
    """Reference: Clopper-Pearson's upper end at a count of 0, from SciPy's own binomial test."""
    for num_items in (1, 4, 500):
        equal = np.ones((3, num_items))
        found = paired_difference(equal, equal, np.random.default_rng(0), largest=1)
        reference = stats.binomtest(0, num_items, alternative="less").proportion_ci(0.95).high
        assert found.estimate == 0
        assert found.high == pytest.approx(reference, rel=1e-12)
        assert found.low == -found.high
        assert "no item differs" in found.method
        words = verdict(found, higher_is_better=True, margin=0.01).words
        assert words == (
            "no difference larger than 0.01"
            if num_items == 500
            else "the data do not say: more items needed, seeds alone do not suffice"
        )


def test_seeds_whose_means_agree_by_luck_leave_a_width():
    """One item more in each arm, another one in each seed: the means differ in neither."""
    d = np.zeros((2, 100))
    d[0, 73], d[0, 12] = 1, -1
    d[1, 86], d[1, 3] = 1, -1
    a, b = np.clip(d, 0, 1), np.clip(-d, 0, 1)
    found = paired_difference(a, b, np.random.default_rng(0))
    # MS_e of the two-way table, by hand, with (S - 1)(N - 1) degrees of freedom.
    residual = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    error = np.sqrt((residual**2).sum() / 99 / 200)
    assert found.standard_error == pytest.approx(error) and found.degrees_of_freedom == 99
    half = stats.t.ppf(0.975, 99) * error
    assert (found.low, found.high) == pytest.approx((-half, half))
    # ... and a verdict, which needs the seeds' spread to say how many would do.
    decided = verdict(found, names=("a", "b"), higher_is_better=True, margin=None)
    assert decided.decision == "undecided"


@pytest.mark.parametrize(("num_seeds", "num_items"), [(3, 10), (3, 50), (6, 20), (7, 30)])
def test_rounding_of_equal_means_is_no_spread(num_seeds, num_items):
    """Each seed gains one item, another one each time: the means are equal but for rounding."""
    d = np.eye(num_seeds, num_items)
    found = paired_difference(d, 0 * d, np.random.default_rng(0), largest=1)
    assert found.high - found.low > 0.5 * found.estimate and found.p_value > 1e-3


D = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, 4.0]])  # (S, N) = (2, 3)


def enumerated(d):
    """Reference: the means of all S^S N^N equally likely resamples of seeds and items."""
    num_seeds, num_items = d.shape
    return np.array(
        [
            d[np.ix_(seeds, items)].mean()
            for seeds in product(range(num_seeds), repeat=num_seeds)
            for items in product(range(num_items), repeat=num_items)
        ]
    )


def test_bootstrap_variance_has_the_closed_form_in_the_docstring():
    num_seeds, num_items = D.shape
    rows, columns = D.mean(axis=1), D.mean(axis=0)
    rest = D - rows[:, None] - columns + D.mean()
    closed = rows.var() / num_seeds + columns.var() / num_items
    closed += rest.var() / (num_seeds * num_items)
    assert enumerated(D).var() == pytest.approx(closed, rel=1e-12)


def test_ten_arms_of_ten_seeds_and_ten_thousand_items_are_small():
    scores = [generator(k).random((10, 10_000)) < 0.8 for k in range(10)]
    tracemalloc.start()
    found = [paired_difference(a, b, generator()) for a, b in combinations(scores, 2)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 45
    assert peak < 100e6  # measured: 5 MB
