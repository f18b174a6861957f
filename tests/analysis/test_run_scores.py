"""Scores of whole runs: times to a target with censoring, mean over training, forgetting."""

import json

import pandas as pd
import pytest
from scipy import stats

from ntpctp._core.layout import RunId
from ntpctp.analysis import run_scores
from ntpctp.analysis.checkpoint_scores import _learning_rows, collect
from ntpctp.analysis.comparison import compare, write_comparison
from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.analysis.run_scores import untrained_splits
from ntpctp.config.stages import stages_of
from ntpctp.report.html.verdicts import verdict_tables
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import execute
from ntpctp.runner.stages import prepare_stages
from tests.config.test_stages import CONTENT


def frame_of(curves, arm="ntp", seed=0, split="test", score="exact_match"):
    """Rows of one run, as from ``checkpoint_scores.collect``, of step -> value."""
    return pd.DataFrame(
        [
            {
                "experiment": "tiny",
                "arm": arm,
                "seed": seed,
                "stage": "train",
                "step": step,
                "tokens": step,
                "supervised_tokens": step,
                "measure": "accuracy",
                "split": split,
                "score": score,
                "stratum": None,
                "strength": None,
                "value": value,
                "unit": "share",
                "count": 20,
                "standard_error": None,
                "error_bound": None,
                "higher_is_better": True,
                "rows_key": None,
                "reason": None,
                "censored": False,
                "schema_version": 2,
            }
            for step, value in curves.items()
        ]
    ).astype({"strength": "float64"})


def whole_run_scores(frame, experiment):
    """Return the scores of the only run, or none."""
    scores = run_scores.whole_run_scores(frame, experiment)
    assert len(scores) <= 1
    return [score for of_run in scores.values() for score in of_run]


def values(scores):
    return {score.score: score.value for score in scores}


def test_a_run_that_reaches_its_target(tiny):
    found = values(whole_run_scores(frame_of({0: 0.0, 4: 0.5, 8: 1.0}), tiny()))
    # From 0.5 at 4 to 1.0 at 8: 0.9 is four fifths of the way.
    assert found == pytest.approx({"steps_to_exact_match": 4 + 0.8 * 4, "mean_exact_match": 0.5})


@pytest.mark.parametrize("target, bound", [(0.9, 7.2 - 4), (1.0, 8 - 4), (0.0, 0.0)])
def test_checkpoints_bound_what_interpolation_may_miss(tiny, target, bound):
    experiment = tiny(comparison={"targets": {"exact_match": target}})
    first, _ = whole_run_scores(frame_of({0: 0.0, 4: 0.5, 8: 1.0, 12: 1.0}), experiment)
    assert first.error_bound == pytest.approx(bound, abs=1e-12)


def test_uneven_checkpoints_are_weighed_by_their_distance(tiny):
    found = values(whole_run_scores(frame_of({0: 0.0, 2: 1.0, 8: 1.0}), tiny()))
    assert found["mean_exact_match"] == pytest.approx((1.0 + 6.0) / 8)


def test_a_run_that_does_not_reach_it_says_so(tiny):
    target = {"targets": {"exact_match": 0.7}}
    (first,) = whole_run_scores(frame_of({0: 0.0, 8: 0.6}), tiny(comparison=target))
    assert first.value is None and first.reason == "0.7 is not reached within 8 steps"
    assert not whole_run_scores(frame_of({0: 0.0, 8: 0.6}), tiny(comparison={"targets": {}}))
    assert not whole_run_scores(frame_of({8: 1.0}), tiny())  # one checkpoint is no curve


def comparisons_of(tiny, tmp_path, curves):
    """Compare arms from (arm, seed) -> curve."""
    experiment = tiny(seeds=3)
    frames = [frame_of(curve, *run) for run, curve in curves.items()]
    rows = [
        {**frame.iloc[-1].to_dict(), **score.as_dict()}
        for frame in frames
        for score in whole_run_scores(frame, experiment)
    ]
    return compare(experiment, pd.DataFrame(rows), tmp_path)


def compared(tiny, tmp_path, curves):
    """Return the stored comparison of the steps to the target."""
    write_comparison(tiny(seeds=3), comparisons_of(tiny, tmp_path, curves), tmp_path)
    (stored,) = (
        s
        for s in json.loads((tmp_path / "comparison.json").read_text())["scores"]
        if s["score"] == "steps_to_exact_match"
    )
    return stored


RISING = {0: 0.0, 4: 0.9, 8: 1.0}
LATER = {0: 0.0, 4: 0.1, 8: 0.9}
NEVER = {0: 0.0, 4: 0.1, 8: 0.2}


def test_seeds_that_do_not_arrive_are_censored_not_left_out(tiny, tmp_path):
    runs = {("ntp", s): RISING for s in range(3)}
    runs |= {("ctp", 0): RISING, ("ctp", 1): NEVER, ("ctp", 2): NEVER}
    stored = compared(tiny, tmp_path, runs)
    # The seeds that reach the target alone would make the arms equal.
    assert stored["arms"]["ctp"] is None and stored["arms"]["ntp"]["mean"] == 4
    (pair,) = stored["pairs"]
    assert pair["difference"] is None and pair["verdict"] is None
    test = stats.logrank(
        stats.CensoredData.right_censored([4, 4, 4], [False] * 3),
        stats.CensoredData.right_censored([4, 8, 8], [False, True, True]),
    )
    assert pair["times"]["p_value"] == pytest.approx(test.pvalue, rel=1e-12)
    assert pair["reason"] == (
        f"ntp: 3 of 3 seeds reach it, ctp: 1 of 3 seeds reach it; log-rank p = {test.pvalue:.2g}"
    )
    assert stored["missing"] == []
    assert pair["times"]["b"]["times"] == [4, 8, 8]
    assert pair["times"]["b"]["reached"] == [True, False, False]
    assert (pair["times"]["a"]["median"], pair["times"]["b"]["median"]) == (4, None)


def test_times_that_are_all_known_have_a_difference_too(tiny, tmp_path):
    soon, late = ({0: 0.0, 1: 0.1, 2: 0.9, 8: 1.0}, {0: 0.0, 6: 0.1, 7: 0.9, 8: 1.0})
    runs = {("ntp", s): soon for s in range(3)} | {("ctp", s): late for s in range(3)}
    (pair,) = compared(tiny, tmp_path, runs)["pairs"]
    assert pair["difference"]["estimate"] == pytest.approx(2 - 7)
    assert pair["verdict"] is not None and pair["times"]["p_value"] < 0.05


def test_no_verdict_on_differences_between_checkpoints(tiny, tmp_path):
    # 4 and 8 with checkpoints 4 steps apart: the first may have arrived at 4, the second at 4.1.
    runs = {("ntp", s): RISING for s in range(3)} | {("ctp", s): LATER for s in range(3)}
    (pair,) = compared(tiny, tmp_path, runs)["pairs"]
    assert pair["difference"]["estimate"] == pytest.approx(4 - 8) and pair["verdict"] is None
    assert pair["reason"].startswith("closer than checkpoints tell apart (8 steps)")


def test_the_mean_over_training_says_how_rough_it_is(tiny):
    scores = whole_run_scores(frame_of({0: 0.0, 2: 0.8, 4: 0.8, 8: 1.0}), tiny())
    mean = next(score for score in scores if score.score == "mean_exact_match")
    fine = (0.8 + 1.6 + 3.6) / 8
    coarse = (0.4 * 4 + 0.9 * 4) / 8  # without step 2
    assert mean.value == pytest.approx(fine) and mean.error_bound == pytest.approx(fine - coarse)


def test_a_curve_without_its_end_is_not_averaged(tiny):
    whole = frame_of({0: 0.0, 4: 0.8, 8: 1.0})
    other = frame_of({8: 0.5}, score="answer_loss")
    cut = pd.concat([whole[whole["step"] < 8], other], ignore_index=True)
    assert whole_run_scores(whole, tiny()) and whole_run_scores(cut, tiny()) == []
    # Other scores of the run are measured at its last step, this one is not.
    assert list(_learning_rows(tiny(), whole)) and list(_learning_rows(tiny(), cut)) == []


def test_runs_of_one_table_are_kept_apart(tiny):
    experiment = tiny(seeds=2)
    runs = [(arm, seed) for arm in ("ntp", "ctp") for seed in (0, 1)]
    frames = [frame_of({0: 0.0, 4: 0.1 * n, 8: 0.9 + 0.01 * n}, *run) for n, run in enumerate(runs)]
    table = pd.concat(frames).sample(frac=1, random_state=0)
    found = run_scores.whole_run_scores(table, experiment)
    assert {run: values(scores) for run, scores in found.items()} == {
        run: values(whole_run_scores(frame, experiment))
        for run, frame in zip(runs, frames, strict=True)
    }
    assert len({scores[0].value for scores in found.values()}) == 4


def test_a_score_without_a_better_direction_has_no_target(tiny):
    frame = frame_of({0: 0.0, 8: 1.0}, score="stopped").assign(higher_is_better=pd.NA)
    experiment = tiny(comparison={"targets": {"stopped": 0.5}})
    assert whole_run_scores(frame, experiment) == []


def test_a_loss_that_rises_is_forgotten(tiny, monkeypatch):
    monkeypatch.setattr("ntpctp.analysis.run_scores.untrained_splits", lambda task: {"test"})
    frame = frame_of({0: 1.0, 8: 3.0}, score="answer_loss").assign(higher_is_better=False)
    experiment = tiny(comparison={"targets": {"answer_loss": 0.5}})
    assert values(whole_run_scores(frame, experiment))["forgotten_answer_loss"] == 2.0


@pytest.mark.slow
def test_stages_have_transfer_and_forgetting_among_their_scores(tmp_path):
    stages = prepare_stages(stages_of({**CONTENT, "seeds": 1}, "x"), tmp_path)
    found = stages.experiments(tmp_path)
    for stage, experiment in found.items():
        for arm in experiment.arms:
            execute(experiment, prepare(experiment), RunId(arm, 0), tmp_path / stage)
    experiment, output = found["finetune"], tmp_path / "finetune"
    assert untrained_splits(experiment.task) == {
        split for split in experiment.task.evaluation_splits if split.startswith("pretrain.")
    }
    frame, _ = compare_experiment(experiment, output)
    frame = frame[frame["stratum"].isna()]  # of whole splits
    learned = frame[frame["measure"] == "learning"]
    kinds = set(zip(learned["split"], learned["score"], strict=True))
    assert ("pretrain.test", "forgotten_exact_match") in kinds
    assert ("finetune.test", "steps_to_exact_match") in kinds
    assert ("finetune.test", "forgotten_exact_match") not in kinds
    for arm in experiment.arms:
        rows = frame[(frame["arm"] == arm) & (frame["split"] == "pretrain.test")]
        start, end = rows[rows["score"] == "exact_match"].sort_values("step")["value"]
        (lost,) = rows[rows["score"] == "forgotten_exact_match"]["value"]
        assert lost == start - end


def test_an_unfinished_run_has_none(tiny, tmp_path):
    import shutil

    experiment = tiny(evaluation={"every": 4, "measures": ["accuracy"]})
    execute(experiment, prepare(experiment), RunId("ntp", 0), tmp_path)
    assert "learning" in set(collect(experiment, tmp_path)["measure"])
    shutil.rmtree(tmp_path / "ntp/seed-0/train/step-000008")
    assert "learning" not in set(collect(experiment, tmp_path)["measure"])


def test_the_report_says_how_many_arrive(tiny, tmp_path):
    runs = {("ntp", s): RISING for s in range(3)}
    runs |= {("ctp", 0): RISING, ("ctp", 1): NEVER, ("ctp", 2): NEVER}
    found = comparisons_of(tiny, tmp_path, runs)
    ((_, _, table),) = verdict_tables(tiny(seeds=3), found)
    (row,) = (row for row in table.rows if "steps to" in row[0].text)
    assert row[2].note == "only 1 seed reached it"
    assert "ctp: 1 of 3 seeds reach it; log-rank p = " in row[4].text
