"""False-positive rate and coverage against enumeration and on data with known rates."""

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp.statistics import coverage, false_positive_rate, paired_difference, verdict
from ntpctp.statistics.calibration import _draw_counts, _intervals, _of_draws, _of_halves


def generator(seed=0):
    return np.random.default_rng(seed)


RUNS = np.array([0.1, 0.15, 0.9, 1.4, 0.2])


def test_false_positives_of_one_arm_are_the_enumerated_ones():
    rejected = [
        stats.ttest_rel(RUNS[list(p[:2])], RUNS[list(p[2:])]).pvalue < 0.3
        for p in permutations(range(5), 4)
    ]
    assert 0.05 < np.mean(rejected) < 0.95
    result = false_positive_rate(RUNS, 2, generator(), level=0.7, num_experiments=4000)
    assert result.low < np.mean(rejected) < result.high
    assert result.rate == pytest.approx(np.mean(rejected), abs=0.03)
    assert result.nominal == pytest.approx(0.3)
    assert (result.num_seeds, result.num_stored, result.num_experiments) == (2, 5, 4000)


def items(kind, shape, rng):
    chance = rng.beta(2, 1, size=(1, shape[1])) + 0.05 * rng.standard_normal((shape[0], 1))
    return {
        "right or wrong": lambda: (rng.random(shape) < chance).astype(float),
        "losses": lambda: 5 + rng.gamma(2, 1, shape) + rng.standard_normal((shape[0], 1)),
        "alike": lambda: np.tile(rng.random((1, shape[1])), (shape[0], 1)),
        "one of many": lambda: np.eye(*shape),  # the means of all seeds agree by luck
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "largest"),
    [
        *((kind, r) for kind in ("right or wrong", "alike", "one of many") for r in (1, np.inf)),
        ("losses", np.inf),
    ],
)
def test_intervals_from_products_are_those_of_paired_difference(kind, largest):
    rng = generator(3)
    for shape in ((2, 30), (5, 40), (4, 1)):
        a, b = items(kind, shape, rng), items(kind, shape, rng)
        if kind == "one of many":
            a, b = a[:, ::-1], b * (shape[1] > 1)
        d = a - b
        found = _intervals(
            d.mean(axis=1)[None], (d @ d.T)[None], shape[1], 0.95, largest, np.abs(d).max()
        )
        if shape[1] == 1:  # one score a seed
            a, b = a[:, 0], b[:, 0]
        expected = paired_difference(a, b, generator(), largest=largest)
        assert bool(found.has_interval[0]) == (expected.low is not None)
        if expected.low is not None:
            ends = max(found.low[0], -largest), min(found.high[0], largest)
            assert ends == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("num_items", [1, 12])
def test_false_positives_with_items_are_the_enumerated_ones(num_items):
    runs = generator(8).random((4, num_items)) + generator(9).random((4, 1))
    rejected = []
    for p in permutations(range(4)):
        found = paired_difference(runs[list(p[:2])], runs[list(p[2:])], generator(), level=0.6)
        rejected.append(found.low > 0 or found.high < 0)
    assert 0.05 < np.mean(rejected) < 0.95
    result = false_positive_rate(runs, 2, generator(), level=0.6, num_experiments=4000)
    assert result.rate == pytest.approx(np.mean(rejected), abs=0.03)


def test_each_experiment_is_that_of_paired_difference():
    """On the same draws, of right and wrong items that change independently."""
    rng = generator(4)
    runs = (rng.random((7, 25)) < rng.random((7, 1)) ** 0.2 * rng.random((1, 25))).astype(float)
    drawn = generator(1).permuted(np.tile(np.arange(7), (50, 1)), axis=1)
    found = _of_halves(runs, drawn[:, :3], drawn[:, 3:6], 0.8, 1)
    for k, order in enumerate(drawn):
        one = paired_difference(
            runs[order[:3]], runs[order[3:6]], generator(), level=0.8, largest=1
        )
        assert (found.low[k], found.high[k]) == pytest.approx((one.low, one.high), abs=1e-12)
    result = false_positive_rate(runs, 3, generator(1), level=0.8, largest=1, num_experiments=50)
    assert 0 < result.count == np.count_nonzero((found.low > 0) | (found.high < 0))


@pytest.mark.parametrize(("num_seeds", "level"), [(3, 0.95), (2, 0.4)])
def test_halves_without_spread_are_called_by_the_exact_test_alone(num_seeds, level):
    """Half of the scores are 0, half 1: draws that separate them have differences all alike."""
    runs = np.repeat([0.0, 1.0], num_seeds)
    called = []
    for order in set(permutations(runs)):
        a, b = order[:num_seeds], order[num_seeds:]
        found = verdict(
            paired_difference(a, b, generator(), level=level), higher_is_better=True, margin=None
        )
        called.append(found.decision == "better")
    result = false_positive_rate(runs, num_seeds, generator(), level=level, num_experiments=4000)
    # 2 / 2^3 is above 0.05, so zero width is no hit; 2 / 2^2 is below 0.6.
    assert (np.mean(called) == 0) == (num_seeds == 3)
    assert result.rate == pytest.approx(np.mean(called), abs=0.03 * np.mean(called))


def test_coverage_of_a_tiny_population_is_the_enumerated_one():
    d = np.array([0.0, 1.0, 3.0])
    held = []
    for drawn in product(d, repeat=2):
        half_width = stats.t.ppf(0.75, 1) * np.std(drawn, ddof=1) / np.sqrt(2)
        held.append(abs(np.mean(drawn) - d.mean()) <= half_width)
    assert 0.1 < np.mean(held) < 0.9
    result = coverage(d, np.zeros(3), 2, generator(), level=0.5, num_experiments=4000)
    assert result.low < np.mean(held) < result.high
    assert result.nominal == 0.5


def test_each_draw_is_that_of_paired_difference():
    """Seeds and items drawn by hand, some of them twice."""
    rng = generator(6)
    a, b = items("right or wrong", (6, 15), rng), items("right or wrong", (6, 15), rng)
    seeds, drawn = rng.integers(6, size=(40, 4)), rng.integers(15, size=(40, 15))
    weights = np.stack([np.bincount(row, minlength=15) for row in drawn]).astype(float)
    found = _of_draws(a - b, seeds, weights, 0.9, 1)
    for k in range(40):
        places = np.ix_(seeds[k], drawn[k])
        one = paired_difference(a[places], b[places], generator(), level=0.9, largest=1)
        ends = max(found.low[k], -1), min(found.high[k], 1)
        assert ends == pytest.approx((one.low, one.high), abs=1e-12)


def test_its_own_interval_is_clopper_and_pearson():
    result = false_positive_rate(RUNS, 2, generator(), level=0.7, num_experiments=300)
    exact = stats.binomtest(result.count, 300).proportion_ci(method="exact")
    assert (result.low, result.high) == pytest.approx((exact.low, exact.high))


def test_nominal_rate_on_gaussian_runs():
    rng = generator(1)
    runs = rng.standard_normal((200, 1)) + 0.5 * rng.standard_normal((200, 30))
    false_positives = false_positive_rate(runs, 5, generator(), num_experiments=2000)
    assert 0.03 < false_positives.rate < 0.07
    b = rng.standard_normal((200, 30))
    held = coverage(runs, b, 5, generator(), num_experiments=2000)
    assert 0.93 < held.rate < 0.97


def test_too_narrow_an_interval_is_detected():
    # Seeds that collapse occasionally: the truth is missed far more often than 1 in 20.
    runs = np.where(np.arange(100) < 10, 0.0, 0.9)[:, None] + 0.01 * generator().random((100, 1))
    result = coverage(runs[:, 0], np.zeros(100), 3, generator(), num_experiments=1000)
    assert result.high < 0.6


def test_equal_runs_are_covered_despite_rounding():
    result = coverage(np.full((4, 7), 0.1), np.full((4, 7), 0.3), 3, generator())
    assert result.rate == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda rng: false_positive_rate(RUNS, 2, rng, level=0.7),
        lambda rng: coverage(RUNS, RUNS[::-1] ** 2, 3, rng, level=0.7),
    ],
)
def test_same_generator_same_rate_and_other_seed_other_rate(function):
    first, second, other = (function(generator(seed)) for seed in (1, 1, 2))
    assert first == second
    assert first.count != other.count


@pytest.mark.parametrize(
    ("num_seeds", "match"), [(3, "at least 6 stored seeds, got 5"), (1, "needs num_seeds >= 2")]
)
def test_too_few_stored_seeds_are_refused(num_seeds, match):
    with pytest.raises(InputError, match=match):
        false_positive_rate(RUNS, num_seeds, generator())


def test_coverage_needs_two_seeds():
    with pytest.raises(InputError, match="needs at least 2, got 1"):
        coverage(RUNS, RUNS, 1, generator())


def test_counts_of_draws_are_those_of_one_multinomial_a_row():
    counts = _draw_counts(generator(), 4, 20_000)
    assert counts.shape == (20_000, 4) and (counts.sum(axis=1) == 4).all()
    # Of n draws from n values each is drawn once on average, with variance 1 - 1/n.
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(counts.var(axis=0), 0.75, rtol=0.05)
    np.testing.assert_array_equal(counts, _draw_counts(generator(), 4, 20_000))
    assert (counts != _draw_counts(generator(1), 4, 20_000)).any()
