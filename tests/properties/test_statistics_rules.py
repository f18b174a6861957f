"""What holds of every interval and p value whatever the scores, and loops to hold them against."""

import itertools
from dataclasses import astuple
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from ntpctp.statistics import holm, mcnemar, paired_difference, share, sign_flip_test

BOUNDED = settings(max_examples=80, derandomize=True, deadline=None, database=None)
# In sixteenths: sums and shifts of these are exact.
SCORES = st.integers(-32, 32).map(lambda sixteenths: sixteenths / 16)
LEVELS = st.sampled_from([0.8, 0.95, 0.99])


@st.composite
def arms(draw, *, items=True, smallest=2):
    shape = [draw(st.integers(smallest, 6))]
    if items and draw(st.booleans()):
        shape.append(draw(st.integers(1, 5)))
    size = int(np.prod(shape))
    scores = st.lists(SCORES, min_size=size, max_size=size)
    return tuple(np.array(draw(scores)).reshape(shape) for _ in range(2))


def compared(a, b, level=0.95):
    return paired_difference(a, b, np.random.default_rng(0), level=level)


def close(found, expected):
    if found is None or expected is None:
        return found is expected
    return found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@BOUNDED
@given(arms(), LEVELS)
def test_an_interval_holds_its_estimate_and_p_values_are_probabilities(scores, level):
    found = compared(*scores, level)
    assert found.estimate == pytest.approx(float(np.mean(scores[0] - scores[1])), abs=1e-12)
    for p in (found.p_value, found.sign_flip_p_value, found.probability_a_better):
        assert p is None or 0 <= p <= 1
    if found.low is None:
        assert found.reason
        return
    assert found.low <= found.estimate <= found.high
    # The test belongs to the interval.
    outside = found.low > 0 or found.high < 0
    if found.standard_error and abs(found.p_value - (1 - level)) > 1e-9:
        assert outside == (found.p_value < 1 - level)


@BOUNDED
@given(arms(), SCORES, st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_a_shift_shifts_and_a_scale_scales(scores, shift, scale):
    plain = compared(*scores)
    # Of one arm a shift moves the interval; of both it does nothing.
    both = compared(*(s + shift for s in scores))
    for name in ("estimate", "low", "high", "standard_error", "p_value", "sign_flip_p_value"):
        assert close(getattr(both, name), getattr(plain, name)), name
    one = compared(scores[0] + shift, scores[1])
    for name in ("estimate", "low", "high"):
        value = getattr(plain, name)
        assert close(getattr(one, name), None if value is None else value + shift), name
    larger = compared(*(s * scale for s in scores))
    for name in ("estimate", "low", "high", "standard_error"):
        value = getattr(plain, name)
        assert close(getattr(larger, name), None if value is None else value * scale), name
    assert close(larger.p_value, plain.p_value)


@BOUNDED
@given(arms(), st.randoms(use_true_random=False))
def test_the_order_of_seeds_and_items_is_of_no_matter(scores, random):
    seeds = list(range(len(scores[0])))
    random.shuffle(seeds)
    shuffled = [s[seeds] for s in scores]
    if scores[0].ndim == 2:
        items = list(range(scores[0].shape[1]))
        random.shuffle(items)
        shuffled = [s[:, items] for s in shuffled]
    for found, expected in zip(
        astuple(compared(*shuffled)), astuple(compared(*scores)), strict=True
    ):
        assert close(found, expected) if isinstance(expected, float) else found == expected


@BOUNDED
@given(arms())
def test_arms_that_change_places_change_the_sign(scores):
    a, b = scores
    one, other = compared(a, b), compared(b, a)
    assert close(other.estimate, -one.estimate)
    assert close(other.low, None if one.high is None else -one.high)
    assert close(other.p_value, one.p_value)
    assert close(other.probability_a_better, 1 - one.probability_a_better)


@BOUNDED
@given(arms(items=False), LEVELS)
def test_one_score_a_seed_is_the_paired_t_test(scores, level):
    a, b = scores
    assume(np.ptp(a - b) > 0)
    found = compared(a, b, level)
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(level)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


@BOUNDED
@given(st.lists(SCORES, min_size=1, max_size=8))
def test_sign_flips_by_hand(differences):
    rng = np.random.default_rng(0)
    found = sign_flip_test(differences, rng)
    signs = list(itertools.product([1, -1], repeat=len(differences)))
    size = abs(sum(differences))
    hits = sum(abs(sum(s * d for s, d in zip(e, differences, strict=True))) >= size for e in signs)
    assert found.exact and found.num_arrangements == len(signs)
    assert found.p_value == hits / len(signs)
    assert 0 < found.smallest_p_value <= found.p_value <= 1
    assert rng.random() == np.random.default_rng(0).random()  # left alone


@BOUNDED
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_by_hand(p_values):
    # Of each: the smallest level at which the procedure, walked step by step, rejects it.
    found = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda k: p_values[k])
    for index, adjusted in enumerate(found):
        place = order.index(index)
        needed = [p_values[k] * (len(p_values) - j) for j, k in enumerate(order[: place + 1])]
        assert adjusted == pytest.approx(min(1.0, max(needed)), rel=1e-12, abs=1e-300)
        assert p_values[index] <= adjusted <= 1 or adjusted == pytest.approx(p_values[index])
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for j, k in enumerate(order):
            if p_values[k] * (len(p_values) - j) > alpha:
                break
            rejected.add(k)
        assert rejected == {k for k, p in enumerate(found) if p <= alpha}


@BOUNDED
@given(st.integers(1, 40), st.data())
def test_ends_of_the_intervals_of_a_share(total, data):
    count = data.draw(st.integers(0, total))
    found = share(count, total)
    z = stats.norm.ppf(0.975)
    for end in (found.wilson_low, found.wilson_high):
        # There the share is z standard errors away, or the end cannot be further out.
        error = np.sqrt(end * (1 - end) / total)
        assert abs(count / total - end) == pytest.approx(z * error, rel=1e-6, abs=1e-9)
    # There what was counted, or more of it, has a probability of one in forty.
    for end, counts in (
        (found.exact_low, range(count, total + 1)),
        (found.exact_high, range(count + 1)),
    ):
        tail = sum(comb(total, k) * end**k * (1 - end) ** (total - k) for k in counts)
        assert end in (0, 1) or tail == pytest.approx(0.025, rel=1e-6)


@BOUNDED
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=14))
def test_mcnemar_by_hand(items):
    a, b = (np.array([column]) for column in zip(*items, strict=True))
    (found,) = mcnemar(a, b)
    only_a, only_b = (sum(pair == one for pair in items) for one in [(True, False), (False, True)])
    assert (found.num_only_a, found.num_only_b, found.num_items) == (only_a, only_b, len(items))
    # Every item on which they disagree is a coin: all falls at least as lopsided as this one.
    falls = itertools.product([0, 1], repeat=only_a + only_b)
    lopsided = sum(abs(2 * sum(fall) - len(fall)) >= abs(only_a - only_b) for fall in falls)
    assert found.p_value == pytest.approx(lopsided / 2 ** (only_a + only_b), rel=1e-12)
