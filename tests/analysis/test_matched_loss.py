"""Curvature at equal loss: against interpolation by hand and SciPy's t test, and in the report."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ntpctp._core.files import read_jsonl
from ntpctp.analysis.matched_loss import CurvaturePoint, compare_at_matched_loss, read_curvature
from ntpctp.config import experiment_of
from ntpctp.report.html.matched_loss import (
    matched_loss_pairs,
    matched_loss_panels,
    matched_loss_table,
)
from ntpctp.runner.engines import Local
from tests.conftest import tiny_content


def run(*points):
    """A run's checkpoints, the first of them trained."""
    return [CurvaturePoint(step, loss, value) for step, (loss, value) in enumerate(points, 1)]


def compare(a, b, level=0.95):
    return compare_at_matched_loss("a", a, "b", b, np.random.default_rng(0), level=level)


@pytest.fixture
def arms():
    """Power laws value = factor * loss^power, measured at different losses in every run."""
    generator = np.random.default_rng(1)
    found = {}
    for arm, factor in (("a", 6.0), ("b", 2.0)):
        runs = {}
        for seed in range(4):
            own = factor * math.exp(generator.normal(scale=0.2))
            losses = np.sort(generator.uniform(0.05, 1, 5))[::-1]
            runs[seed] = run(
                (2.0, own * 2**0.7), *[(x, own * x**0.7) for x in losses], (0.02, own * 0.02**0.7)
            )
        found[arm] = runs
    return found["a"], found["b"]


def test_power_laws_have_their_ratio_everywhere(arms):
    a, b = arms
    found = compare(a, b)
    expected = [math.log(a[s][0].value / b[s][0].value) for s in range(4)]
    test = stats.ttest_1samp(expected, 0)
    low, high = test.confidence_interval(0.95)
    assert found.seeds == [0, 1, 2, 3]
    assert (found.first, found.last) == (pytest.approx(2.0), pytest.approx(0.02))
    for result in (found.at_last, found.mean):
        assert result.estimate == pytest.approx(np.mean(expected), rel=1e-12)
        assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
        assert result.p_value == pytest.approx(test.pvalue)


def test_the_last_loss_is_the_smallest_that_all_runs_pass():
    a = {0: run((1.0, 8.0), (0.1, 4.0)), 1: run((1.0, 8.0), (0.2, 2.0))}
    b = {0: run((2.0, 3.0), (0.01, 1.0)), 1: run((1.5, 3.0), (0.02, 1.0))}
    found = compare(a, b)
    assert (found.first, found.last) == (pytest.approx(1.0), pytest.approx(0.2))

    def at(points, loss):
        (x0, y0), (x1, y1) = [(-math.log(p.loss), math.log(p.value)) for p in points]
        return y0 + (y1 - y0) * (-math.log(loss) - x0) / (x1 - x0)

    ends = [[at(a[s], loss) - at(b[s], loss) for s in (0, 1)] for loss in (1.0, 0.2)]
    assert found.at_last.estimate == pytest.approx(np.mean(ends[1]), rel=1e-12)
    # Straight lines over the whole range: their mean is the mean of their ends.
    assert found.mean.estimate == pytest.approx(np.mean(ends), rel=1e-12)


def test_only_falling_losses_and_positive_converged_eigenvalues_count():
    clean = {0: run((1.0, 8.0), (0.1, 4.0)), 1: run((1.0, 6.0), (0.1, 5.0))}
    noisy = {
        0: run((1.0, 8.0), (1.2, 99.0), (0.5, None), (0.4, -1.0), (0.1, 4.0), (0.1, 77.0)),
        1: clean[1],
    }
    other = {0: run((1.0, 2.0), (0.1, 1.0)), 1: run((1.0, 2.0), (0.1, 1.5))}
    found = compare(noisy, other)
    assert found.left_out == ["a, seed 0: no positive, converged eigenvalue at step 3, 4"]
    assert replace(found, left_out=[]) == compare(clean, other)


def test_the_order_of_arms_turns_the_ratio(arms):
    a, b = arms
    forth, back = compare(a, b), compare(b, a)
    assert back.at_last.estimate == pytest.approx(-forth.at_last.estimate)
    assert back.mean.low == pytest.approx(-forth.mean.high)


def test_no_common_range_has_a_reason():
    short, long = {0: run((1.0, 8.0))}, {0: run((1.0, 8.0), (0.1, 4.0))}
    assert "two trained checkpoints" in compare(short, long).reason
    apart = {0: run((0.09, 3.0), (0.01, 2.0))}
    found = compare(long, apart)
    assert found.at_last is None and "no loss that all runs" in found.reason
    assert compare({1: long[0]}, {2: long[0]}).seeds == []


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A trained experiment, measured at four checkpoints."""
    from ntpctp.runner.experiment import run_experiment

    output = tmp_path_factory.mktemp("measured")
    content = tiny_content(
        training={"steps": 24, "batch_size": 8, "learning_rate": 1e-2},
        evaluation={"every": 8, "measures": ["accuracy", {"name": "flatness", "max_items": 16}]},
    )
    experiment = experiment_of(content, "tiny")
    failures = run_experiment(experiment, output, engine=Local(1), on_event=lambda e: None)
    assert not failures
    return experiment, output


@pytest.mark.slow
def test_curvature_is_read_from_the_rows_of_flatness(measured):
    experiment, output = measured
    arms = read_curvature(experiment, output)["train"]
    assert list(arms) == ["ntp", "ctp"] and list(arms["ntp"]) == [0, 1]
    for seed in (0, 1):
        steps = [point.step for point in arms["ctp"][seed]]
        assert steps == [0, 8, 16, 24]
        path = output / f"ctp/seed-{seed}/train/step-000024/evaluation/flatness.jsonl"
        row = next(r for r in read_jsonl(path) if r["loss"] == "answer")
        assert arms["ctp"][seed][-1] == (24, row["mean_loss"], row["value"])
    # Before training the arms are one model.
    assert arms["ntp"][0][0] == arms["ctp"][0][0]


@pytest.mark.slow
def test_the_report_has_its_figure_and_its_ratio(measured):
    experiment, output = measured
    (panel,) = matched_loss_panels(experiment, output)
    assert len(panel.figure["data"]) == 4
    arms = read_curvature(experiment, output)["train"]
    (entry,) = matched_loss_pairs(experiment, "train", arms)
    (row,) = matched_loss_table(experiment, "train", [entry]).rows
    if entry.at_last is None:
        pytest.fail(f"the check needs a common range: {entry.reason}")
    assert float(row[3].text) == pytest.approx(math.exp(entry.at_last.estimate), rel=5e-3)
    assert row[3].text in panel.note and panel.axis


def test_one_trained_checkpoint_is_no_curve(measured, tmp_path):
    experiment, output = measured
    arms = read_curvature(experiment, output)["train"]
    short = {seed: points[:2] for seed, points in arms["ntp"].items()}
    assert [point.step for point in short[0]] == [0, 8]
    found = compare_at_matched_loss(
        "ntp", short, "ctp", arms["ctp"], np.random.default_rng(0), level=0.95
    )
    assert found.seeds == [] and "two trained checkpoints" in found.reason
    assert matched_loss_panels(experiment, tmp_path) == []  # nothing was measured there


def test_the_shared_start_does_not_count(arms):
    a, b = arms
    start = CurvaturePoint(0, 2.7, 80.0)
    with_start = [{s: [start, *points] for s, points in runs.items()} for runs in (a, b)]
    assert compare(*with_start) == compare(a, b)


def test_a_run_that_is_stuck_gives_no_ratio_instead_of_one_at_the_start(arms):
    a, b = arms
    stuck = {**b, 3: run((2.65, 50.0), (2.6, 55.0))}
    found = compare(a, stuck)
    assert found.at_last is None and found.last_of == "b, seed 3"
    assert "b, seed 3 ends at 2.6 nats" in found.reason


def test_left_out_seeds_and_checkpoints_are_named(arms):
    a, b = arms
    odd = {**b, 2: run((2.0, 5.0), (2.5, 6.0)), 3: [*b[3][:-1], CurvaturePoint(9, 0.02, None)]}
    found = compare(a, odd)
    assert found.seeds == [0, 1, 3]
    assert found.left_out == [
        "seed 2: b without two trained checkpoints of falling loss",
        "b, seed 3: no positive, converged eigenvalue at step 9",
    ]
    alone = compare({**a, 7: a[0]}, b)
    assert "seed 7: b without" in alone.left_out[0]
