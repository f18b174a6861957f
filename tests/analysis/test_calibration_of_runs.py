"""Calibration of stored scores with known error rates, and refused inputs."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp._core.records import write_sealed
from ntpctp.analysis import calibration
from ntpctp.analysis.calibration import calibrate, verdict_of, with_fresh_seeds, write_calibration
from ntpctp.config import experiment_of
from ntpctp.report.terminal.calibrations import calibration_tables
from ntpctp.statistics import coverage, false_positive_rate
from tests.conftest import tiny_content


def rows(experiment, arm, score, values, **columns):
    base = {
        "arm": arm, "step": experiment.arms[arm].training.steps, "measure": "accuracy",
        "split": "test", "score": score, "stratum": None, "strength": np.nan,
        "unit": "nats per token", "higher_is_better": False, "rows_key": None, "reason": "no value",
        "censored": False, "error_bound": np.nan,
    }  # fmt: skip
    return [
        {**base, "seed": seed, "value": value, **columns}
        for seed, value in zip(experiment.seeds, values, strict=True)
    ]


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Write an experiment whose scores are given: (arm, score) -> one value per seed."""
    frames = {}
    monkeypatch.setattr(calibration, "collect", lambda experiment, output: frames[output])

    def make(scores, seeds, directory=tmp_path, data="f1", **changes):
        content = tiny_content(seeds=seeds, **changes)
        experiment = experiment_of(content, "tiny")
        directory.mkdir(exist_ok=True)
        (directory / "experiment.yaml").write_text(
            yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
        )
        write_sealed(directory / "provenance.json", {"data_fingerprint": data})
        frames[directory] = pd.DataFrame(
            [
                row
                for (arm, score), values in scores.items()
                for row in rows(experiment, arm, score, values)
            ]
        )
        return directory

    return make


def gaussian(num_seeds, names=("answer_loss", "all_loss"), seed=0):
    generator = np.random.default_rng(seed)
    return {
        (arm, name): 2 + generator.standard_normal(num_seeds)
        for arm in ("ntp", "ctp")
        for name in names
    }


def test_exchangeable_scores_are_calibrated(stored):
    record = calibrate(stored(gaussian(60), 60))
    rates = {rate["num_seeds"]: rate for rate in record["false_positives"]}
    assert list(rates) == [2, 3, 5, 8, 10, 15, 20, 30]
    for size in (3, 5, 10):
        assert 0.02 < rates[size]["rate"] < 0.08  # 60 seeds: a standard error of 1 to 2 points
        assert rates[size]["num_comparisons"] == 4
        assert rates[size]["nominal"] == pytest.approx(0.05)
    covered = {rate["num_seeds"]: rate for rate in record["coverage"]}
    assert all(0.91 < covered[size]["rate"] < 0.97 for size in (5, 10, 30))
    assert covered[5]["num_comparisons"] == 2  # one pair of arms, two scores
    assert "no sign that the intervals are wrong" in record["verdict"]
    assert record["left_out"] == []


def test_each_rate_is_that_of_the_statistics_and_the_interval_counts_disjoint_halves(stored):
    scores = gaussian(11)
    record = calibrate(stored(scores, 11))
    (rate,) = (r for r in record["false_positives"] if r["num_seeds"] == 5)
    assert [one["arm"] for one in rate["each"]] == ["ntp", "ctp", "ntp", "ctp"]
    for one in rate["each"]:
        runs = scores[one["arm"], one["score"]]
        other = false_positive_rate(runs, 5, np.random.default_rng(0), num_experiments=4000)
        assert one["rate"] == pytest.approx(other.rate, abs=0.03)  # two Monte-Carlo errors
    assert rate["rate"] == pytest.approx(np.mean([one["rate"] for one in rate["each"]]))
    # 11 seeds hold one pair of disjoint halves of 5, in each of two arms.
    x, n = 2 * rate["rate"], 2
    expected = stats.beta.ppf(0.025, x, n - x + 1), stats.beta.ppf(0.975, x + 1, n - x)
    assert (rate["low"], rate["high"]) == pytest.approx(expected)
    assert "here 2 in 2 arms" in rate["method"]
    assert "11 seeds could hardly reveal one" in record["verdict"]
    (held,) = (r for r in record["coverage"] if r["num_seeds"] == 5)
    other = coverage(
        scores["ntp", "answer_loss"], scores["ctp", "answer_loss"], 5, np.random.default_rng(0)
    )
    assert held["each"][0]["rate"] == pytest.approx(other.rate, abs=0.03)
    assert (held["each"][0]["a"], held["each"][0]["b"]) == ("ntp", "ctp")


def test_the_reference_rate_of_few_seeds_is_that_of_normal_scores(stored):
    """Reference: two draws from four normal scores, their t interval written out."""
    (held, *_) = calibrate(stored(gaussian(4), 4))["coverage"]
    generator = np.random.default_rng(5)
    population = generator.standard_normal((4000, 4))
    drawn = np.take_along_axis(population, generator.integers(4, size=(4000, 2)), axis=1)
    half_width = stats.t.ppf(0.975, 1) * np.abs(drawn[:, 0] - drawn[:, 1]) / 2
    expected = np.mean(np.abs(drawn.mean(axis=1) - population.mean(axis=1)) <= half_width)
    assert held["of_normal"] == pytest.approx(expected, abs=0.03)
    assert held["of_normal"] < 0.8  # both draws are one seed in a quarter of all


def test_whole_counts_have_the_exact_interval():
    for count, total in ((0, 8), (3, 8), (8, 8)):
        exact = stats.binomtest(count, total).proportion_ci(method="exact")
        found = calibration._clopper_pearson(count, total)
        assert found == pytest.approx((exact.low, exact.high))


def test_runs_of_other_seeds_count_too(stored, tmp_path):
    both = gaussian(10)
    half = {key: values[:4] for key, values in both.items()}
    rest = {key: values[4:] for key, values in both.items()}
    stored(half, 4)
    stored(rest, [4, 5, 6, 7, 8, 9], tmp_path / "calibration")
    record = calibrate(tmp_path)
    assert (record["seeds"], record["trained_seeds"]) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9])
    sizes = [rate["num_seeds"] for rate in record["false_positives"]]
    assert sizes == [2, 3, 4, 5]  # 4: as many as the experiment has
    assert record["judged_size"] == 4 and "4 seeds in each half" in record["verdict"]
    whole = calibrate(stored(both, 10, tmp_path / "whole"))
    of_whole = {rate["num_seeds"]: rate["rate"] for rate in whole["false_positives"]}
    assert record["false_positives"][-1]["rate"] == of_whole[5]


@pytest.mark.parametrize(
    ("seeds", "data", "match"),
    [([3, 4], "f1", r"seeds \[3\] are also in"), ([4, 5], "f2", "other arms or data")],
)
def test_further_runs_of_another_experiment_are_refused(stored, tmp_path, seeds, data, match):
    stored(gaussian(4), 4)
    stored(gaussian(2), seeds, tmp_path / "calibration", data)
    with pytest.raises(InputError, match=match):
        calibrate(tmp_path)


def test_further_runs_under_other_settings_are_refused(stored, tmp_path):
    stored(gaussian(4), 4)
    training = {"steps": 8, "batch_size": 8, "learning_rate": 2e-2, "log_every": 2}
    stored(gaussian(2), [4, 5], tmp_path / "calibration", training=training)
    with pytest.raises(InputError, match="other arms or data"):
        calibrate(tmp_path)


def test_further_runs_measured_with_other_options_are_refused(stored, tmp_path):
    stored(gaussian(4), 4)
    measures = [{"name": "accuracy", "max_items": 3}]
    stored(gaussian(2), [4, 5], tmp_path / "calibration", evaluation={"measures": measures})
    with pytest.raises(
        InputError, match=r"measured with other options .* --train 2` measures them"
    ):
        calibrate(tmp_path)


def test_scores_without_a_value_in_some_seed_are_left_out_with_a_note(stored):
    scores = gaussian(6)
    scores["ntp", "all_loss"][2] = np.nan
    record = calibrate(stored(scores, 6))
    assert record["left_out"] == ["ntp, test all_loss: 1 seeds without a value"]
    assert record["false_positives"][0]["num_comparisons"] == 3
    assert record["coverage"][0]["num_comparisons"] == 1


def test_arms_with_other_seeds_are_not_paired(stored, monkeypatch):
    directory = stored(gaussian(7), 7)
    frame = calibration.collect(None, directory)
    gone = {("ntp", 6), ("ctp", 0)}
    there = [run not in gone for run in zip(frame["arm"], frame["seed"], strict=True)]
    monkeypatch.setattr(calibration, "collect", lambda *_: frame[there])
    record = calibrate(directory)
    assert record["false_positives"][0]["num_stored"] == 6
    assert record["coverage"] == []


def test_too_few_seeds_are_refused_with_the_command_that_helps(stored, tmp_path):
    with pytest.raises(InputError, match=r"needs 4 seeds .* found 3\n.*--train 7"):
        calibrate(stored(gaussian(3), 3))
    assert not (tmp_path / "calibration.json").exists()


def test_fresh_seeds_change_nothing_else():
    experiment = experiment_of(tiny_content(seeds=[0, 7], comparison={"loss_path": {}}), "tiny")
    fresh = with_fresh_seeds(experiment, 3)
    assert fresh.seeds == [8, 9, 10] and fresh.comparison.loss_path is None
    assert fresh.arms == experiment.arms and fresh.evaluation == experiment.evaluation
    with pytest.raises(InputError, match="of at least 1, found 0"):
        with_fresh_seeds(experiment, 0)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.06, 0.3, "more often than nominal"),
        (0.0, 0.04, "less often than nominal"),
        (0.0, 0.15, "no sign that the intervals are wrong."),
        (0.0, 0.6, "8 seeds could hardly reveal one."),
    ],
)
def test_one_sentence_judges(low, high, words):
    rate = calibration.PooledRate(3, 8, 12, 0.04, low, high, 0.05, 0.05, "", [])
    other = replace(rate, num_seeds=4, rate=0.5)
    record = {"false_positives": [vars(rate), vars(other)], "judged_size": 3}
    sentence = verdict_of(record)
    assert words in sentence
    assert (
        "3 seeds in each half (12 scores of arms, random splits of 8 seeds), 4.0% were" in sentence
    )


def test_the_terminal_shows_rates_and_verdict(stored, tmp_path):
    record = calibrate(stored(gaussian(6), 6))
    write_calibration(record, tmp_path)
    assert calibration.read_calibration(tmp_path) == json.loads(json.dumps(record))
    shown = list(calibration_tables(record))
    assert [table.row_count for table in shown if hasattr(table, "row_count")] == [2, 2]
    assert str(shown[-1]) == record["verdict"]
