"""Aggregates over tasks against SciPy, loops and enumeration."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp.statistics import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)


def generator(seed=0):
    return np.random.default_rng(seed)


A = generator(1).exponential(size=(5, 3)) ** 2
B = generator(2).exponential(size=(4, 3)) ** 2


def test_interquartile_mean_drops_a_quarter_at_each_end():
    ordered = np.sort(A.ravel())  # 15 scores: 3 dropped at each end
    expected = ordered[3:12].mean()
    assert interquartile_mean(A, generator()).estimate == pytest.approx(expected, rel=1e-12)
    # Neither of the two it could be mistaken for.
    assert abs(expected - A.mean()) > 0.1 and abs(expected - np.median(A)) > 0.05


def test_interval_is_the_enumerated_bootstrap():
    x = np.array([[1.0, 10.0], [2.0, 14.0], [5.0, 11.0]])
    drawn = list(product(range(3), repeat=2))  # S - 1 = 2 of 3 runs, for each task
    values = [
        stats.trim_mean(np.concatenate([x[list(p), 0], x[list(q), 1]]), 0.25)
        for p in drawn
        for q in drawn
    ]
    result = interquartile_mean(x, generator(), level=0.8, num_resamples=40_000)
    # The quantiles lie inside atoms of the distribution, which Monte-Carlo error cannot move.
    np.testing.assert_allclose(
        (result.low, result.high), np.quantile(values, [0.1, 0.9]), atol=1e-9
    )


def test_probability_of_improvement_is_the_mean_of_mann_whitney():
    expected = np.mean([stats.mannwhitneyu(A[:, m], B[:, m]).statistic / 20 for m in range(3)])
    result = probability_of_improvement(A, B, generator())
    assert result.estimate == pytest.approx(expected, rel=1e-12)
    assert result.num_runs == (5, 4) and result.num_tasks == 3
    backward = probability_of_improvement(B, A, generator())
    assert backward.estimate == pytest.approx(1 - expected, rel=1e-12)


def test_ties_count_half():
    assert probability_of_improvement(A, A, generator()).estimate == pytest.approx(0.5)


def test_profile_by_loop():
    thresholds = np.append(np.quantile(A, [0.1, 0.5, 0.9]), A[0, 0])
    result = performance_profile(A, thresholds, generator())
    for k, tau in enumerate(thresholds):
        assert result.estimate[k] == pytest.approx(sum(a > tau for a in A.ravel()) / 15)
    assert np.all((result.low <= result.estimate) & (result.estimate <= result.high))
    assert result.low[1] < result.high[1]


@pytest.mark.parametrize(
    "function",
    [
        lambda rng: interquartile_mean(A, rng, num_resamples=200),
        lambda rng: probability_of_improvement(A, B, rng, num_resamples=200),
    ],
)
def test_same_generator_same_interval_and_other_seed_other_interval(function):
    first, second, other = (function(generator(seed)) for seed in (3, 3, 4))
    assert first == second
    assert (first.low, first.high) != (other.low, other.high)
    assert first.estimate == other.estimate


def test_chunks_cover_all_resamples(monkeypatch):
    monkeypatch.setattr("ntpctp.statistics.tasks_aggregate._CHUNK_ENTRIES", 50)
    chunked = interquartile_mean(A, generator(), num_resamples=10_001)
    monkeypatch.undo()
    whole = interquartile_mean(A, generator(), num_resamples=10_001)
    assert chunked.low == pytest.approx(whole.low, rel=0.1)  # other draws, same distribution


def test_one_run_gives_a_reason():
    result = interquartile_mean(A[:1], generator())
    assert result.low is result.high is None
    assert result.reason == "one run: no interval over runs can be computed"
    profile = performance_profile(A[:1], [0.5], generator())
    assert profile.low is profile.high is None and profile.reason == result.reason


def test_coverage_with_three_runs_of_five_tasks():
    rng = generator(5)
    means = np.linspace(0, 2, 5)
    truth = stats.trim_mean(means + rng.standard_normal((20_000, 3, 5)), 0.25, axis=(1, 2)).mean()
    hits = 0
    for _ in range(400):
        scores = means + rng.standard_normal((3, 5))
        result = interquartile_mean(scores, rng, num_resamples=400)
        hits += result.low <= truth <= result.high
    assert 0.88 <= hits / 400 <= 0.96  # 92 % in the docstring; 3 standard errors


def test_different_tasks_are_refused():
    with pytest.raises(InputError, match=r"same tasks in both arms.*\(5, 3\) and \(4, 2\)"):
        probability_of_improvement(A, B[:, :2], generator())
