"""Joined experiments: paired arms give the same comparison as within one experiment."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from ntpctp._core.errors import InputError
from ntpctp.analysis.checkpoint_scores import collect
from ntpctp.analysis.comparison import compare
from ntpctp.analysis.joins import join, joined_record
from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.analysis.scores import SCORES, read_scores
from ntpctp.config import load_output
from ntpctp.measures import Accuracy
from ntpctp.statistics import holm, interquartile_mean, probability_of_improvement
from tests.analysis.simulated import ITEMS, simulate

OTHER_TASK = {"task": {"name": "addition", "digits": 2, "train_size": 60, "test_size": 20}}


def make(output, **options):
    simulate(output, **options)
    compare_experiment(load_output(output), output)
    return output


def primary(comparisons):
    (found,) = [
        c for c in comparisons if (c.split, c.score, c.stratum) == ("test", "exact_match", None)
    ]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Three arms in one experiment."""
    arms = {"ntp": 0.5, "half": 0.6, "ctp": 0.8}
    return make(tmp_path_factory.mktemp("whole") / "whole", name="whole", arms=arms)


@pytest.fixture(scope="module")
def parts(whole, tmp_path_factory):
    """The same runs, ntp and half in one experiment and ctp in another."""
    top = tmp_path_factory.mktemp("parts")
    for name, arms in (("one", {"ntp": 0.5, "half": 0.6}), ("two", {"ctp": 0.8})):
        make(top / name, name=name, arms=arms)
    return [top / "one", top / "two"]


def test_joined_arms_are_compared_as_those_of_one_experiment(whole, parts):
    (group,) = join(parts).groups
    expected = compare(load_output(whole), read_scores(whole), whole)
    assert group.spec.arms == ["ntp", "half", "ctp"]
    assert len(expected) == len(group.comparisons) == 6
    by_name = {(c.split, c.score, c.stratum): c for c in group.comparisons}
    for one in expected:
        found = by_name[one.split, one.score, one.stratum]
        assert found.values == one.values and found.arms == one.arms
        assert found.reaching == one.reaching
        without_times = [[replace(p, times=None) for p in c.pairs] for c in (found, one)]
        assert without_times[0] == without_times[1]
    assert any(pair.matched for one in expected for pair in one.pairs)
    assert any(one.reaching["ctp"] for one in expected)
    score = primary(group.comparisons)
    assert score.pairs[0].difference.num_items == ITEMS
    p_values = [pair.difference.p_value for pair in score.pairs]
    assert [pair.holm_p_value for pair in score.pairs] == holm(p_values).tolist()


def test_settings_that_differ_between_joined_experiments_are_listed(whole, parts, tmp_path):
    other = make(tmp_path / "x", name="wider", training={"steps": 20, "batch_size": 4})
    (group,) = join([parts[0], other]).groups
    assert group.spec.arms == ["one/ntp", "half", "wider/ntp", "ctp"]
    assert group.differing["training.batch_size"] == {
        "one/ntp": "8",
        "half": "8",
        "wider/ntp": "4",
        "ctp": "4",
    }
    assert "training.learning_rate" not in group.differing
    # Two experiments of one name are labelled by their directories.
    (group,) = join([whole, shutil.copytree(whole, tmp_path / "again")]).groups
    assert group.spec.arms[0] == f"{whole}/ntp"
    pair = primary(group.comparisons).pairs[2]
    assert (pair.a, pair.b) == (f"{whole}/ntp", f"{tmp_path / 'again'}/ntp")
    assert pair.difference.estimate == 0


def test_notes_name_everything_that_cannot_be_paired(parts, tmp_path):
    one = parts[0]
    few = make(tmp_path / "few", name="few", seeds=[2, 3], items=range(10))
    measures = [{"name": "accuracy", "modes": ["greedy"]}]
    evaluation = {"every": 10, "measures": measures}
    way = make(tmp_path / "way", name="way", evaluation=evaluation)
    (group,) = join([one, few]).groups
    assert "few: seeds 3 are not in all experiments" in "; ".join(group.notes)
    pairs = {(p.a, p.b): p for p in primary(group.comparisons).pairs}
    assert pairs["half", "ctp"].difference is None
    assert "not of the same items: 30 in half, seed 2, 10 in ctp" in pairs["half", "ctp"].reason
    assert pairs["few/ntp", "ctp"].difference.num_seeds == 2
    (group,) = join([one, way]).groups
    (note,) = group.notes
    assert note == (
        "accuracy: not paired between experiments that measured it with different options: "
        "modes None (one) and ['greedy'] (way)"
    )
    found = [c for c in group.comparisons if (c.split, c.score) == ("test", "answer_loss")]
    assert [list(c.arms) for c in found] == [["one/ntp", "half"], ["way/ntp", "ctp"]]


def test_notes_name_unfinished_runs_and_missing_measures(parts, tmp_path):
    stopped = shutil.copytree(parts[1], tmp_path / "stopped")
    shutil.rmtree(stopped / "ctp/seed-1/train/step-000020")
    shutil.rmtree(stopped / "ctp/seed-2")
    frame = read_scores(stopped)
    gone = (frame["seed"] == 2) | ((frame["seed"] == 1) & (frame["step"] == 20))
    frame[~gone & (frame["measure"] != "learning")].to_parquet(stopped / SCORES)
    notes = join([parts[0], stopped]).groups[0].notes
    assert "two: ctp, seed 1 is left out: not measured at its last step" in notes
    assert "two: ctp, seed 2 is left out: not measured" in notes
    assert "learning: not measured by two, so not paired" in notes


def test_tasks_stand_side_by_side_with_aggregates(parts, tmp_path):
    first = make(tmp_path / "first", name="first")
    second = make(tmp_path / "second", name="second", data="others", arms={"ntp": 0.2, "ctp": 0.9},
                  **OTHER_TASK)  # fmt: skip
    joined = join([first, second])
    assert [group.label for group in joined.groups] == ["first", "second"]
    assert joined.notes[0] == (
        "first and second: not paired, because their data differ (task.digits 1 and 2)"
    )
    over = joined.over
    scores = {
        arm: np.array(
            [
                [primary(group.comparisons).values[arm][seed] for group in joined.groups]
                for seed in range(3)
            ]
        )
        for arm in ("ntp", "ctp")
    }
    for arm, values in scores.items():
        expected = interquartile_mean(values, np.random.default_rng(0))
        assert over.means[arm].estimate == expected.estimate == np.sort(values, None)[1:5].mean()
        assert over.means[arm].low == pytest.approx(expected.low, abs=0.05)
        above = [(values > t).mean() for t in over.profiles[arm].thresholds]
        np.testing.assert_allclose(over.profiles[arm].estimate, above)
    (improvement,) = over.improvements
    expected = probability_of_improvement(*scores.values(), np.random.default_rng(0)).estimate
    assert improvement.probability.estimate == expected < 0.2
    assert over.seeds == {"ntp": [0, 1, 2], "ctp": [0, 1, 2]}
    record = joined_record(joined)
    assert json.loads(json.dumps(record, allow_nan=False))["over_tasks"]["limits"]

    # An arm that not all tasks have is left out, with the reason.
    joined = join([make(tmp_path / "third", name="third", arms={"ntp": 0.3, "half": 0.4}), second])
    assert list(joined.over.means) == ["ntp"]
    assert "over tasks: half is left out: second has no arm of that name" in joined.notes
    # No arm in common: no aggregate.
    joined = join(
        [parts[0], make(tmp_path / "b", name="b", arms={"x": 0.5}, data="b", **OTHER_TASK)]
    )
    assert joined.over is None and "over tasks: ntp is left out" in joined.notes[1]


def test_lower_losses_are_improvements(tmp_path):
    """Where the primary score is a loss, the smaller one wins."""
    made = []
    for name in "ab":
        output = make(tmp_path / name, name=name, data=name, arms={"ntp": 0.1, "ctp": 0.9})
        frame = read_scores(output)
        frame[(frame["score"] == "answer_loss")].to_parquet(output / SCORES)
        made.append(output)
    over = join(made).over
    assert over.unit == "nats per token" and over.higher_is_better is False
    assert over.means["ntp"].estimate > over.means["ctp"].estimate
    assert over.improvements[0].probability.estimate == 0


def test_outdated_or_inconsistent_files_are_refused_by_name(parts, tmp_path, monkeypatch):
    old = shutil.copytree(parts[1], tmp_path / "old")
    frame = read_scores(old)
    frame.assign(schema_version=1).to_parquet(old / SCORES)
    with pytest.raises(InputError, match=rf"{old / SCORES}: expected rows of schema version 2"):
        join([parts[0], old])
    frame.assign(value=frame["value"] + 0.1).to_parquet(old / SCORES)
    with pytest.raises(InputError, match=rf"{old}: scores.parquet disagrees .* seed 0 is 1 there"):
        join([parts[0], old])
    with pytest.raises(InputError, match=r"no experiment\.yaml in it or in a directory"):
        join([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="given 2 times"):
        join([parts[0], parts[0]])
    monkeypatch.setattr(Accuracy, "version", Accuracy.version + 1)
    with pytest.raises(InputError, match="checkpoints of 6 runs were measured by an older"):
        join(parts)


def test_a_comparison_is_read_as_it_was_made(whole):
    from ntpctp.analysis.comparison import read_comparisons

    experiment = load_output(whole)
    made = compare(experiment, collect(experiment, whole), whole)
    found = read_comparisons(whole)
    plain = [c for c in made if c.unit != "steps"]
    assert plain == [c for c in found if c.unit != "steps"] and len(plain) == 5
    (times,) = (c.pairs[0].times for c in found if c.unit == "steps")
    (expected,) = (c.pairs[0].times for c in made if c.unit == "steps")
    np.testing.assert_array_equal(times.a.times, expected.a.times)
    with pytest.raises(ValidationError, match="TimeComparison"):
        TypeAdapter(type(times)).validate_python([1])
