"""Ending a run at a target, and deleting weights that are not to be kept."""

import json

import pytest
from safetensors.torch import load_file

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId, stage_directory
from ntpctp.analysis.checkpoint_scores import collect
from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.config import Keep
from ntpctp.models import checkpoints
from ntpctp.runner.callbacks import checkpoints_to_thin
from ntpctp.runner.evaluate import evaluate, stored
from ntpctp.runner.plan import plan
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import execute, is_complete
from ntpctp.training import Stop
from tests.training.test_training import run as train_rows

RUN = RunId("ctp", 0)
TRAINING = {"steps": 12, "batch_size": 8, "learning_rate": 1e-2, "log_every": 2}
MEASURES = ["accuracy", {"name": "flatness", "at": "last", "max_items": 16}]
LOSS = {"score": "answer_loss", "split": "test"}


def done(tiny, output, *, training=None, **evaluation):
    experiment = tiny(
        training={**TRAINING, **(training or {})},
        evaluation={"every": 3, "measures": MEASURES, **evaluation},
        seeds=1,
    )
    data = prepare(experiment)
    execute(experiment, data, RUN, output)
    return experiment, data


def losses(output):
    """Step -> loss on the answers of the test split."""
    found = {}
    for path in checkpoints.list_checkpoints(stage_directory(output, RUN)):
        record = json.loads((path / "evaluation/accuracy.json").read_text())
        (value,) = (
            s["value"]
            for s in record["scores"]
            if (s["score"], s["split"]) == (LOSS["score"], LOSS["split"])
        )
        found[checkpoints.step_of(path)] = value
    return found


def same_weights(a, b):
    first, second = (load_file(path / "model.safetensors") for path in (a, b))
    return all((first[name] == second[name]).all() for name in first)


@pytest.fixture
def plain(tiny, tmp_path):
    done(tiny, tmp_path / "plain")
    return tmp_path / "plain"


def test_a_run_ends_at_its_target_and_stays_there(tiny, tmp_path, plain):
    seen = losses(plain)
    assert list(seen) == [0, 3, 6, 9, 12]
    target = (seen[3] + seen[6]) / 2
    assert seen[6] < target < min(seen[0], seen[3])
    out = tmp_path / "stopped"
    experiment, data = done(tiny, out, training={"stop": {**LOSS, "at_most": target}})
    assert losses(out) == {**seen, 9: seen[6], 12: seen[6]}
    stage = stage_directory(out, RUN)
    assert same_weights(stage / "step-000006", stage_directory(plain, RUN) / "step-000006")
    assert same_weights(stage / "step-000012", stage / "step-000006")
    # It takes no further space, and counts what was really read.
    files = [stage / f"step-{step:06d}/model.safetensors" for step in (6, 9, 12)]
    assert len({file.stat().st_ino for file in files}) == 1
    assert checkpoints.read_progress(stage / "step-000012").step == 6
    assert json.loads((stage / "log.jsonl").read_text().splitlines()[-1])["step"] == 6
    frame = collect(experiment, out)
    frame = frame[frame["arm"] == "ctp"]
    tokens = dict(zip(frame["step"], frame["tokens"], strict=True))
    assert tokens[12] == tokens[9] == tokens[6] > tokens[3] > 0
    # What is measured at the last step alone is there too.
    assert "flatness" in set(frame[frame["step"] == 12]["measure"])
    assert is_complete(experiment, data, RUN, out)
    times = [p.stat().st_mtime_ns for p in sorted(stage.glob("step-*/**/*.*"))]
    execute(experiment, data, RUN, out)
    assert [p.stat().st_mtime_ns for p in sorted(stage.glob("step-*/**/*.*"))] == times
    compare_experiment(experiment, out)


def test_a_run_that_was_killed_between_repeats_is_completed(tiny, tmp_path, plain):
    import shutil

    target = losses(plain)[6]
    out = tmp_path / "stopped"
    experiment, data = done(tiny, out, training={"stop": {**LOSS, "at_most": target}})
    stage = stage_directory(out, RUN)
    shutil.rmtree(stage / "step-000012")
    execute(experiment, data, RUN, out)
    assert checkpoints.read_progress(stage / "step-000012").step == 6
    shutil.rmtree(stage / "step-000009")
    execute(experiment, data, RUN, out)
    assert checkpoints.read_progress(stage / "step-000009").step == 6
    assert is_complete(experiment, data, RUN, out)


def test_another_schedule_is_another_run(tiny, tmp_path):
    stop = {"stop": {**LOSS, "at_most": 1e-9}}
    done(tiny, tmp_path, training=stop)
    message = r"looked_at: \[0, 3, 6, 9, 12\] in run\.json, \[0, 4, 8, 12\] now"
    with pytest.raises(InputError, match=message):
        done(tiny, tmp_path, training=stop, every=4)


def test_a_target_that_is_never_reached_changes_nothing(tiny, tmp_path, plain):
    done(tiny, tmp_path / "out", training={"stop": {**LOSS, "at_most": 1e-9}})
    assert losses(tmp_path / "out") == losses(plain)
    for step in (3, 12):
        a, b = (stage_directory(o, RUN) / f"step-{step:06d}" for o in (plain, tmp_path / "out"))
        assert same_weights(a, b)
        assert (a / "optimizer.safetensors").read_bytes() == (
            b / "optimizer.safetensors"
        ).read_bytes()


def test_a_score_that_no_measure_gives(tiny, tmp_path):
    with pytest.raises(InputError, match=r"training\.stop: no measure yields nope on test at"):
        done(tiny, tmp_path, training={"stop": {"score": "nope", "split": "test", "at_least": 1}})


def with_weights(output):
    stage = stage_directory(output, RUN)
    return [
        checkpoints.step_of(path)
        for path in checkpoints.list_checkpoints(stage)
        if (path / "model.safetensors").exists()
    ]


@pytest.mark.parametrize(
    "keep, kept",
    [({"last": 1}, [0, 12]), ({"last": 2}, [0, 9, 12]), ({"last": 9}, [0, 3, 6, 9, 12])],
)
@pytest.mark.slow
def test_only_the_newest_weights_are_kept(tiny, tmp_path, plain, keep, kept):
    out = tmp_path / "out"
    experiment, data = done(tiny, out, keep=keep)
    assert with_weights(out) == kept
    assert losses(out) == losses(plain)
    last = "step-000012/model.safetensors"
    assert same_weights(
        (stage_directory(out, RUN) / last).parent, (stage_directory(plain, RUN) / last).parent
    )
    assert is_complete(experiment, data, RUN, out)
    for path in checkpoints.list_checkpoints(stage_directory(out, RUN)):
        checkpoints.verify(path)
    weights = [p.stat().st_size for p in stage_directory(out, RUN).rglob("*.safetensors")]
    planned = plan(experiment, data)["ctp"].disk_bytes
    assert planned < sum(weights) < planned * 1.2  # headers


def test_the_best_weights_are_kept(tiny, tmp_path, plain):
    out = tmp_path / "out"
    # So fast a rate that the loss rises again before the end.
    done(tiny, tmp_path / "all", training={"learning_rate": 0.3})
    seen = losses(tmp_path / "all")
    best = min((s for s in seen if s), key=lambda s: seen[s])
    assert best not in (0, 12)
    done(
        tiny,
        out,
        training={"learning_rate": 0.3},
        keep={"best": "answer_loss", "split": "test"},
    )
    assert with_weights(out) == [0, best, 12]


def test_a_killed_run_goes_on_from_the_weights_that_are_left(tiny, tmp_path, plain):
    import shutil

    out = tmp_path / "out"
    experiment, data = done(tiny, out, keep={"last": 1})
    stage = stage_directory(out, RUN)
    shutil.rmtree(stage / "step-000012")
    assert checkpoints.resume_point(stage, [0, 3, 6, 9, 12])[0] == stage / "step-000000"
    execute(experiment, data, RUN, out)
    assert losses(out) == losses(plain) and with_weights(out) == [0, 12]


def test_a_thin_checkpoint_is_not_measured_anew(tiny, tmp_path):
    experiment, data = done(tiny, tmp_path, keep={"last": 1})
    path = stage_directory(tmp_path, RUN) / "step-000006"
    accuracy, flatness = experiment.evaluation.measures
    objective = experiment.arms["ctp"].objective
    options = {"batch_tokens": 1024}
    assert evaluate(path, data, objective, [accuracy], **options) == stored(path, accuracy)
    with pytest.raises(InputError, match=r"cannot measure flatness: the weights were deleted"):
        evaluate(path, data, objective, [flatness], **options)


def test_nothing_is_superfluous_at_the_start(tiny, tmp_path):
    train_rows(tmp_path, steps_saved=[5])
    evaluation = tiny().evaluation
    assert checkpoints_to_thin(tmp_path / "step-000000", Keep(last=1), evaluation) == []
    assert checkpoints_to_thin(tmp_path / "step-000010", Keep(last=1), evaluation) == [
        tmp_path / "step-000005"
    ]


@pytest.mark.parametrize("kind, fields", [(Stop, {}), (Stop, {"at_least": 1, "at_most": 2})])
def test_one_direction(kind, fields):
    with pytest.raises(ValueError, match="expected either at_least or at_most"):
        kind(**fields)
    with pytest.raises(ValueError, match="expected either last or best"):
        Keep(**{"last": 1, "best": "choice"} if fields else {})


def test_reached():
    assert Stop(at_least=0.5).reached(0.5) and not Stop(at_least=0.5).reached(0.49)
    assert Stop(at_most=0.5).reached(0.5) and not Stop(at_most=0.5).reached(0.51)
    assert not Stop(at_most=0.5).reached(None)


def test_splits_that_are_not_there_are_missed_before_the_start(tiny):
    stop = {"split": "tset", "at_least": 1}
    with pytest.raises(InputError, match=r"split of arms\.ntp\.training\.stop 'tset'"):
        prepare(tiny(training={**TRAINING, "stop": stop}))
    keep = {"best": "exact_match", "split": "tset"}
    with pytest.raises(InputError, match=r"split of evaluation\.keep 'tset'"):
        prepare(tiny(evaluation={"every": 3, "measures": MEASURES, "keep": keep}))
