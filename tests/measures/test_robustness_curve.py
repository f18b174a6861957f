"""Curves over strengths against loops and closed forms."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from ntpctp.measures.computation.curve import RobustnessCurve, half_strengths, item_results
from ntpctp.measures.fields import Strengths
from tests.measures.robustness_context import by_name

STRENGTHS = [0.0, 0.5, 2.0]


def curve(right, chance=0.0, **fields):
    return RobustnessCurve(
        measure="robustness",
        split="test",
        kind="noise",
        strengths=STRENGTHS,
        right=np.asarray(right, float),
        chance=chance,
        strength_unit="deviations",
        **fields,
    )


def drawn(draws=3, items=40, missing=0.0, seed=0):
    """Answers that get worse with the strength; some of them not measured."""
    rng = np.random.default_rng(seed)
    right = (rng.random((draws, items, 3)) < [0.9, 0.7, 0.2]).astype(float)
    right[:, :, 0] = right[0, :, 0]
    right[:, :, 1:][rng.random((draws, items, 2)) < missing] = np.nan
    return right


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_scores_equal_a_loop(missing):
    right = drawn(missing=missing)
    found = curve(right)
    for place, strength in enumerate(STRENGTHS):
        shares, worst, flips = [], [], []
        for item in range(40):
            seen = [draw[item] for draw in right if not np.isnan(draw[item, place])]
            if seen:
                shares.append(sum(draw[place] for draw in seen) / len(seen))
                worst.append(float(all(draw[place] for draw in seen)))
                flips.append(sum(draw[place] != draw[0] for draw in seen) / len(seen))
        of = {"accuracy": shares, "worst_of_draws": worst, "flip_rate": flips}
        for name, values in of.items():
            scores = by_name(found.scores(), f"{name}_under_noise")
            if name == "flip_rate" and not strength:
                assert strength not in scores
                continue
            assert scores[strength].value == pytest.approx(np.mean(values))
            assert scores[strength].count == len(values) <= 40
            error = np.std(values, ddof=1) / len(values) ** 0.5
            assert scores[strength].standard_error == pytest.approx(error)
    counts = [s.count for s in by_name(found.scores(), "accuracy_under_noise").values()]
    assert (min(counts) < 40) == bool(missing)


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_rows_hold_what_scores_are_the_means_of(missing):
    found = curve(drawn(missing=missing), shared={"deviation": 2.5})
    rows = item_results([found])
    assert [(row["split"], row["item"], row["deviation"]) for row in rows] == [
        ("test", item, 2.5) for item in range(40)
    ]
    keyed = [score for score in found.scores() if score.rows_key]
    assert len(keyed) == 3 + 3 + 2 + 1
    assert len({score.rows_key for score in keyed}) == len(keyed)
    for score in keyed:
        values = [row[score.rows_key] for row in rows if score.rows_key in row]
        assert (np.mean(values), len(values)) == (pytest.approx(score.value), score.count)


def test_the_area_is_that_of_items_measured_along_the_whole_curve():
    right = drawn(draws=1, missing=0.3)
    areas = [
        (0.5 * (a + b) / 2 + 1.5 * (b + c) / 2) / 2
        for a, b, c in right[0]
        if not np.isnan([a, b, c]).any()
    ]
    (area,) = by_name(curve(right).scores(), "area_noise").values()
    assert (area.value, area.count) == (pytest.approx(np.mean(areas)), len(areas))
    assert area.count < 40
    (half,) = by_name(curve(right).scores(), "half_strength_noise").values()
    assert half.count == len(areas)


def test_one_draw_has_no_worst_and_flips_can_be_left_out():
    names = {score.score for score in curve(drawn(draws=1), with_flips=False).scores()}
    assert names == {"accuracy_under_noise", "area_noise", "half_strength_noise"}


def test_half_strength_of_straight_lines():
    # A(s) = 1 - s / 4 for s <= 2: half of 1 at 2; half of the way to chance 0.5, 0.75, at 1.
    line = np.array([[1.0, 0.875, 0.5]])
    assert half_strengths(STRENGTHS, line, 0.0) == pytest.approx([2.0])
    assert half_strengths(STRENGTHS, line, 0.5) == pytest.approx([1.0])
    # The first crossing counts, and one between the first two strengths is found too.
    assert half_strengths(STRENGTHS, np.array([[0.8, 0.2, 0.9]]), 0.0) == pytest.approx([1 / 3])
    assert np.isnan(half_strengths(STRENGTHS, np.array([[0.8, 0.7, 0.41]]), 0.0)).all()
    assert np.isnan(half_strengths(STRENGTHS, np.array([[0.5, 0.1, 0.0]]), 0.5)).all()


def test_half_strength_equals_a_fine_grid():
    rng = np.random.default_rng(3)
    strengths = [0.0, 0.3, 0.7, 1.5, 2.0]
    curves = np.c_[rng.uniform(0.6, 1, 200), rng.uniform(0, 1, (200, 4))]
    grid = np.linspace(0, 2, 20_001)
    for chance in (0.0, 0.25):
        for found, line in zip(half_strengths(strengths, curves, chance), curves, strict=True):
            target = chance + (line[0] - chance) / 2
            below = np.interp(grid, strengths, line) <= target
            if below.any():
                assert found == pytest.approx(grid[below.argmax()], abs=2e-4)
            else:
                assert np.isnan(found)


def test_the_error_of_the_half_strength_is_that_over_items():
    (half,) = by_name(curve(drawn(items=400)).scores(), "half_strength_noise").values()
    others = [
        half_strengths(STRENGTHS, drawn(items=400, seed=seed).mean(axis=(0, 1))[None], 0.0)
        for seed in range(1, 80)
    ]
    assert half.standard_error == pytest.approx(np.std(others), rel=0.25)
    assert half == by_name(curve(drawn(items=400)).scores(), "half_strength_noise")[None]
    assert half.rows_key is None and half.unit == "deviations"


@pytest.mark.parametrize(
    ("shares", "chance", "reason"),
    [
        ([0.5, 0.1, 0.0], 0.5, "0.5 of the items are right, no more than the 0.5 of chance"),
        ([1.0, 0.8, 0.6], 0.0, "more than half of the advantage over chance is left up to stre"),
        ([0.0, 0.0, 0.0], 0.0, "there is no advantage to lose"),
    ],
)
def test_half_strengths_that_do_not_exist_have_a_reason(shares, chance, reason):
    right = np.arange(10)[None, :, None] < 10 * np.array(shares)
    half = by_name(curve(right, chance).scores(), "half_strength_noise")[None]
    assert (half.value, half.standard_error) == (None, None)
    assert reason in half.reason


def test_an_error_that_some_resample_does_not_have_is_none():
    # 10 items, 4 right at the end: a resample with 5 never loses half.
    right = np.arange(10)[None, :, None] < np.array([10, 10, 4])
    half = by_name(curve(right).scores(), "half_strength_noise")[None]
    assert half.value == pytest.approx(0.5 + 1.5 * 5 / 6) and half.standard_error is None


def test_nothing_measured_is_null_with_a_reason():
    right = drawn()
    right[:, :, 2] = np.nan
    scores = curve(right).scores()
    assert by_name(scores, "accuracy_under_noise")[0.5].value is not None
    for name in ("accuracy_under_noise", "worst_of_draws_under_noise", "flip_rate_under_noise"):
        score = by_name(scores, name)[2.0]
        assert (score.value, score.count) == (None, 0)
        assert score.reason == "no item could be disturbed at strength 2"
    for name in ("area_noise", "half_strength_noise"):
        score = by_name(scores, name)[None]
        assert score.value is None and "at every strength" in score.reason


def test_strengths_must_rise_from_zero():
    for strengths in ([0.5, 1.0], [0.0, 1.0, 1.0], [0.0, float("nan")]):
        with pytest.raises(ValidationError, match="rising strengths that start with 0"):
            TypeAdapter(Strengths).validate_python(strengths)


def test_chance_is_that_of_the_items_along_the_whole_curve():
    """Half of the items, with two candidates, cannot be disturbed; the others have ten."""
    right = np.ones((1, 40, 3))
    right[:, :20, 1:] = np.nan
    right[:, 20:, 2] = 0
    chance = np.repeat([0.5, 0.1], 20)
    half = by_name(curve(right, chance).scores(), "half_strength_noise")[None]
    # From 1 at strength STRENGTHS[1] to 0 at STRENGTHS[2]: down to 0.1 + 0.9 / 2.
    low, high = STRENGTHS[1:3]
    assert half.value == pytest.approx(low + (1 - 0.55) * (high - low))
    assert half.count == 20


def test_only_a_curve_that_starts_above_chance_has_a_larger_half_strength():
    robust = np.ones((1, 10, len(STRENGTHS)))
    useless = np.zeros((1, 10, len(STRENGTHS)))
    found = [
        by_name(curve(right).scores(), "half_strength_noise")[None] for right in (robust, useless)
    ]
    assert [half.value for half in found] == [None, None]
    assert [half.censored for half in found] == [True, False]
    assert "no advantage to lose" in found[1].reason
