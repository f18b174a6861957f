"""Curves at matched budgets against values computed by hand, and reasons for no comparison."""

import numpy as np
import pandas as pd
import pytest

from ntpctp.analysis.matched_budget import AXES, LearningCurves, has_curve
from ntpctp.statistics import paired_difference

STEPS = [0, 10, 20, 30]
# Of a step, A's loss sees 20 tokens and B's 5; seed 1 reads a little more.
TOKENS = {0: 20, 1: 22}
SEEN = {"a": {0: 20, 1: 22}, "b": {0: 5, 1: 6}}
VALUES = {
    ("a", 0): [0.0, 0.3, 0.5, 0.8],
    ("a", 1): [0.1, 0.2, 0.6, 0.7],
    ("b", 0): [0.0, 0.1, 0.4, 0.9],
    ("b", 1): [0.1, 0.3, 0.3, 0.6],
}
FLOPS = {"a": {s: 200.0 * s for s in STEPS}, "b": {s: 100.0 * s for s in STEPS}}


def frame(values=VALUES, steps=STEPS):
    return pd.DataFrame(
        {
            "arm": arm,
            "seed": seed,
            "step": step,
            "tokens": TOKENS[seed] * step,
            "supervised_tokens": SEEN[arm][seed] * step,
            "value": value,
        }
        for (arm, seed), of_run in values.items()
        for step, value in zip(steps, of_run, strict=True)
    )


def compared(rows, flops=FLOPS):
    curves = LearningCurves(rows, flops).compare(
        "a", "b", np.random.default_rng(0), level=0.95, largest=1
    )
    assert [found.axis for found in curves] == list(AXES)
    return {found.axis: found for found in curves}


def test_the_same_steps_are_the_rows_themselves():
    found = compared(frame())["steps"]
    assert (found.first, found.last, found.seeds) == (0, 30, [0, 1])
    half, end = found.points
    assert (half.budget, end.budget) == (15, 30)
    at_end = paired_difference([0.8, 0.7], [0.9, 0.6], np.random.default_rng(0), largest=1)
    assert end.difference.estimate == pytest.approx(at_end.estimate)
    assert (end.difference.low, end.difference.high) == (-1, 1)  # cut: two seeds say nothing
    a, b = [(0.3 + 0.5) / 2, (0.2 + 0.6) / 2], [(0.1 + 0.4) / 2, 0.3]
    assert half.difference.estimate == pytest.approx(np.mean(a) - np.mean(b))
    areas = {run: np.trapezoid(values, STEPS) / 30 for run, values in VALUES.items()}
    by_seed = [areas["a", seed] - areas["b", seed] for seed in (0, 1)]
    assert found.area.estimate == pytest.approx(np.mean(by_seed))
    assert found.area.seed_standard_deviation == pytest.approx(np.std(by_seed, ddof=1))


def test_the_same_supervised_tokens_compare_an_early_a_with_a_late_b():
    found = compared(frame())["supervised_tokens"]
    # B's last budgets are 150 and 180: all runs reach 150. A's seed 0 is there after 7.5 steps.
    assert (found.first, found.last) == (0, 150)
    end = found.points[-1]
    a = [0.3 * 0.75, 0.1 + 0.1 * 150 / 220]
    b = [0.9, 0.3 + 0.3 * (150 - 120) / 60]
    assert end.budget == 150
    assert end.difference.estimate == pytest.approx(np.mean(a) - np.mean(b), rel=1e-12)
    # The mean height over 0 to 150, by quadrature on a fine grid that has all corners.
    fine = np.arange(0, 150.0001, 0.5)
    heights = []
    for seed in (0, 1):
        on_a, on_b = (
            np.interp(fine, np.array(STEPS) * SEEN[arm][seed], VALUES[arm, seed]) for arm in "ab"
        )
        heights.append(np.trapezoid(on_a - on_b, fine) / 150)
    assert found.area.estimate == pytest.approx(np.mean(heights), abs=1e-4)


def test_tokens_and_operations_have_their_own_axes():
    found = compared(frame())
    assert found["tokens"].last == 600  # seed 0; the arms read alike
    assert found["flops"].last == 3000
    (half, end) = found["flops"].points
    # B at its end is A at half of its steps.
    assert end.difference.estimate == pytest.approx(np.mean([0.4, 0.4]) - np.mean([0.9, 0.6]))
    assert half.budget == 1500


def test_missing_flops_give_a_reason():
    found = compared(frame(), {"a": FLOPS["a"]})["flops"]
    assert found.points == [] and found.area is None
    assert found.reason == "operations of b are not recorded; ntpctp run does so"


def test_a_checkpoint_without_flops_is_left_out():
    flops = {"a": FLOPS["a"], "b": {s: f for s, f in FLOPS["b"].items() if s != 10}}
    found = compared(frame(), flops)["flops"]
    assert found.reason is None and (found.first, found.last) == (0, 3000)
    # B runs straight from step 0 to 20 there, where it has 0.4 (seed 0) and 0.3 (seed 1).
    a, b = [0.3 * 1.5 / 2, 0.1 + 0.1 * 1.5 / 2], [0.4 * 0.75, 0.1 + 0.2 * 0.75]
    half, _ = found.points
    assert half.budget == 1500
    assert half.difference.estimate == pytest.approx(np.mean(a) - np.mean(b))


def test_nothing_is_extrapolated():
    late = {run: values[2:] for run, values in VALUES.items() if run[0] == "a"}
    early = {run: values[:2] for run, values in VALUES.items() if run[0] == "b"}
    rows = pd.concat([frame(late, STEPS[2:]), frame(early, STEPS[:2])])
    found = compared(rows)["steps"]
    assert found.points == [] and found.area is None
    assert found.reason == (
        "no range that all runs have (a 20 to 30, b 0 to 10), and nothing is extrapolated"
    )
    # From 20 to 30 steps A; B from 0: the range is 20 to 30, and its half is not in it.
    rows = pd.concat([frame(late, STEPS[2:]), frame({k: VALUES[k] for k in early})])
    found = compared(rows)["steps"]
    assert (found.first, found.last) == (20, 30)
    assert [at.budget for at in found.points] == [30]


def test_a_stopped_run_consumes_steps_but_no_tokens():
    rows = frame()
    stopped = (rows["arm"] == "a") & (rows["step"] == 30)
    for column in ("tokens", "supervised_tokens"):
        rows.loc[stopped, column] = rows.loc[(rows["arm"] == "a") & (rows["step"] == 20), column]
    rows.loc[stopped, "value"] = [0.5, 0.6]
    found = compared(rows, {"a": FLOPS["a"], "b": {s: 900.0 * s for s in STEPS}})
    assert found["steps"].last == 30
    assert found["tokens"].last == 400 and found["flops"].last == 200 * 20


def test_a_checkpoint_without_a_value_is_left_out_and_one_point_is_no_curve():
    rows = frame()
    rows.loc[(rows["arm"] == "b") & (rows["seed"] == 1) & (rows["step"] > 0), "value"] = np.nan
    assert compared(rows)["steps"].seeds == [0]
    assert compared(rows)["steps"].points[0].difference.low is None  # one seed
    rows.loc[rows["arm"] == "b", "value"] = np.nan
    assert compared(rows)["tokens"].reason == (
        "no seed has two checkpoints with a value in both arms"
    )


def test_first_rank_scores_of_accuracy_have_curves():
    row = {
        "measure": "accuracy", "split": "test", "score": "exact_match", "stratum": None,
        "strength": None, "higher_is_better": True,
    }  # fmt: skip
    assert has_curve(row, ["test"])
    for change in (
        {"measure": "robustness"},
        {"split": "train"},
        {"score": "calibration_error"},
        {"stratum": "hops = 3"},
        {"strength": 0.5},
        {"higher_is_better": None},
    ):
        assert not has_curve(row | change, ["test"])
