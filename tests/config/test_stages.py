"""Pretrain, then finetune: what is shared, where runs start, what is measured, what is refused."""

import pytest
import yaml
from safetensors.torch import load_file

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId
from ntpctp.analysis.checkpoint_scores import collect
from ntpctp.config.stages import stages_of
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import execute
from ntpctp.runner.stages import prepare_stages

CONTENT = {
    "name": "matrix",
    "model": {"family": "gpt2", "layers": 1, "width": 8, "heads": 2},
    "stages": {
        "pretrain": {
            "task": {"name": "addition", "digits": 1, "train_size": 60, "test_size": 20},
            "training": {"steps": 6, "batch_size": 8, "learning_rate": 1e-2},
        },
        "finetune": {
            "task": {"name": "addition", "digits": 2, "train_size": 60, "test_size": 20},
            "training": {"steps": 4, "batch_size": 8, "learning_rate": 1e-2},
        },
    },
    "grid": {"pretrain.objective": ["ntp", "ctp"], "finetune.objective": ["ntp", "ctp"]},
    "seeds": 2,
    "evaluation": {"measures": ["accuracy"]},
}


def changed(**changes):
    return {k: v for k, v in {**CONTENT, **changes}.items() if v is not None}


def with_stage(stage, **changes):
    stages = CONTENT["stages"]
    return changed(stages={**stages, stage: {**stages[stage], **changes}})


def weights(directory):
    return {k: v.clone() for k, v in load_file(directory / "model.safetensors").items()}


def assert_same(a, b):
    assert a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def test_four_arms_share_two_pretrained_runs_a_seed(tmp_path):
    found = stages_of(CONTENT, "matrix.yaml").experiments(tmp_path)
    assert list(found["pretrain"].arms) == ["ntp", "ctp"]
    assert list(found["finetune"].arms) == ["ntp-ntp", "ntp-ctp", "ctp-ntp", "ctp-ctp"]
    arm = found["finetune"].arms["ctp-ntp"]
    assert arm.objective.name == "ntp"
    assert arm.model.checkpoint == str(tmp_path / "pretrain/ctp/seed-{seed}/train/step-000006")
    assert found["finetune"].factors["ctp-ntp"] == {
        "pretrain.objective": "ctp",
        "finetune.objective": "ntp",
    }
    assert found["pretrain"].factors == {
        "ntp": {"pretrain.objective": "ntp"},
        "ctp": {"pretrain.objective": "ctp"},
    }


def test_arms_that_are_written_out(tmp_path):
    arms = {
        "all": {"pretrain": {"objective": "ntp"}, "finetune": {"objective": "ntp"}},
        "late": {"pretrain": {"objective": "ntp"}, "finetune": {"objective": "ctp"}},
        "short": {
            "pretrain": {"objective": "ntp", "training": {"steps": 3}},
            "finetune": {"objective": "ctp"},
        },
    }
    found = stages_of(changed(arms=arms, grid=None), "m.yaml").experiments(tmp_path)
    assert list(found["pretrain"].arms) == ["all", "short"]
    starts = {name: arm.model.checkpoint for name, arm in found["finetune"].arms.items()}
    assert (
        starts["all"]
        == starts["late"]
        == str(tmp_path / "pretrain/all/seed-{seed}/train/step-000006")
    )
    assert starts["short"].endswith("pretrain/short/seed-{seed}/train/step-000003")


def test_model_factors_belong_to_the_first_stage(tmp_path):
    grid = {"model.init_rate": [0.4, 0.8], "finetune.objective": ["ntp", "ctp"]}
    content = with_stage("pretrain", objective="ntp") | {"grid": grid}
    found = stages_of(content, "m.yaml").experiments(tmp_path)
    assert {n: a.model.init_rate for n, a in found["pretrain"].arms.items()} == {
        "0.4": 0.4,
        "0.8": 0.8,
    }
    assert "pretrain/0.8/" in found["finetune"].arms["0.8-ctp"].model.checkpoint


@pytest.mark.slow
def test_a_whole_matrix(tmp_path):
    experiments = prepare_stages(stages_of(CONTENT, "m.yaml"), tmp_path).experiments(tmp_path)
    for stage, experiment in experiments.items():
        data = prepare(experiment)
        for run in experiment.runs():
            execute(experiment, data, run, tmp_path / stage)
    last, first = "train/step-000006", "train/step-000000"
    for arm in experiment.arms:
        for seed in ("seed-0", "seed-1"):
            start = tmp_path / "pretrain" / arm[:3] / seed / last
            assert_same(weights(start), weights(tmp_path / "finetune" / arm / seed / first))
    # Objectives do differ.
    one, two = (weights(tmp_path / "pretrain" / arm / "seed-0" / last) for arm in ("ntp", "ctp"))
    assert any((one[name] != two[name]).any() for name in one)

    before, after = (collect(experiments[s], tmp_path / s) for s in ("pretrain", "finetune"))
    assert set(before["split"]) == {"train", "pretrain.test"}
    assert set(after["split"]) == {"train", "finetune.test", "pretrain.test"}
    # What is known of the old task on starting anew is what was known in the end.
    old = before[(before["arm"] == "ctp") & (before["step"] == 6)]
    new = after[(after["arm"] == "ctp-ntp") & (after["step"] == 0)]
    known = [
        frame[(frame["split"] == "pretrain.test") & (frame["measure"] == "accuracy")]
        .set_index(["seed", "score"])["value"]
        .sort_index()
        for frame in (old, new)
    ]
    assert len(known[0]) >= 3 * 2 and (known[0] == known[1]).all()

    # Another start is another run.
    run, directory = RunId("ntp-ntp", 0), tmp_path / "pretrain/ntp/seed-0" / last
    other = tmp_path / "pretrain/ctp/seed-0" / last / "model.safetensors"
    (directory / "model.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(InputError, match=r"with other settings:\n  start:"):
        execute(experiment, data, run, tmp_path / "finetune")


@pytest.mark.slow
def test_one_command_does_all_stages_and_carries_on(tmp_path, ntpctp):
    path, output = tmp_path / "m.yaml", tmp_path / "out"
    arms = {"late": {"pretrain": {"objective": "ntp"}, "finetune": {"objective": "ctp"}}}
    path.write_text(yaml.safe_dump(changed(arms=arms, grid=None, seeds=1), sort_keys=False))
    outcome = ntpctp("run", path, "--output", output)
    assert outcome.code == 0, outcome.err
    for stage in ("pretrain", "finetune"):
        assert f"report: {output / stage / 'report.html'}" in outcome.out
    log = output / "finetune/late/seed-0/train/log.jsonl"
    stamp = log.stat().st_mtime_ns
    assert ntpctp("run", path, "--output", output).code == 0
    assert log.stat().st_mtime_ns == stamp


def test_one_vocabulary_and_room_for_all_stages(tmp_path):
    own = tmp_path / "own.jsonl"
    rows = [f'{{"prompt": "{"long " * 9}q{n}?", "answer": "{n}"}}' for n in range(20)]
    own.write_text("\n".join(rows))
    task = {"name": "jsonl", "path": str(own)}
    content = with_stage("finetune", task=task) | {"tokenizer": "characters"}
    stages = prepare_stages(stages_of(content, "m.yaml"), tmp_path)
    data = prepare(stages.experiments(tmp_path)["pretrain"])
    assert set("?long q") <= set(data.tokenizer.get_vocab())
    assert stages.shared["model"]["context"] == 56  # 49 characters and the end, in steps of 8
    assert data.evaluation_splits == ("pretrain.test",)


def test_mixtures_keep_their_parts(tmp_path):
    parts = {
        "small": {"task": {"name": "addition", "digits": 1, "train_size": 40, "test_size": 20}},
        "large": {"task": {"name": "addition", "digits": 3, "train_size": 40, "test_size": 20}},
    }
    content = with_stage("pretrain", task={"name": "mixture", "parts": parts})
    found = stages_of(content, "m.yaml").experiments(tmp_path)
    assert found["pretrain"].task.evaluation_splits == ("small.test", "large.test")
    assert found["finetune"].task.evaluation_splits == (
        "finetune.test",
        "pretrain.small.test",
        "pretrain.large.test",
    )
    assert len(found["pretrain"].task.split("train")) == 80
    assert len(found["finetune"].task.split("train")) == 60


def test_the_same_task_in_both_stages_is_measured_once(tmp_path):
    content = with_stage("finetune", task=CONTENT["stages"]["pretrain"]["task"])
    found = stages_of(content, "m.yaml").experiments(tmp_path)
    assert found["finetune"].task == found["pretrain"].task
    assert found["finetune"].task.evaluation_splits == ("test",)


def test_everything_wrong_is_found_before_anything_is_written(tmp_path, ntpctp):
    path, output = tmp_path / "m.yaml", tmp_path / "out"
    text = yaml.safe_dump(with_stage("finetune", training={"stps": 3}), sort_keys=False)
    path.write_text(text)
    outcome = ntpctp("run", path, "--output", output)
    line = 1 + text.splitlines().index("      stps: 3")
    assert outcome.code == 2
    assert "stage finetune: 2 errors\n" in outcome.err
    assert f"line {line}: training.stps: unknown field; did you mean 'steps'?" in outcome.err
    assert not output.exists()
    # The data of a later stage: its training examples are those that the first is tested on.
    one = dict(CONTENT["stages"]["pretrain"]["task"], train_size=20, test_size=60)
    path.write_text(yaml.safe_dump(with_stage("finetune", task=one), sort_keys=False))
    outcome = ntpctp("run", path, "--output", output)
    assert outcome.code == 2 and "share an example" in outcome.err
    assert not list(tmp_path.glob("out/[!.]*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(stages={}), "stages: expected at least two"),
        (changed(stages={"a": {}, "b": 3}), "stages.b: expected a block of fields, found 3"),
        (with_stage("finetune", model={}), "stages.finetune.model: all stages share model"),
        (changed(training={"steps": 3}), "training: not a field beside stages"),
        (changed(grid=None), "expected either arms or a grid, found neither"),
        (changed(arms={"a": {}}), "expected either arms or a grid, found both"),
        (changed(grid={"objective": ["ntp", "ctp"]}), "grid.objective: expected STAGE.objective"),
        (changed(grid={"pretrain.task": [1, 2]}), "grid.pretrain.task: expected STAGE.objective"),
        (changed(grid=None, arms={"a": {"objective": "ntp"}}), "arms.a: expected the fields of"),
        (changed(name=None), "name: missing"),
    ],
)
def test_what_does_not_fit_together(content, message):
    with pytest.raises(InputError, match=message):
        stages_of(content, "m.yaml")


def test_a_seed_that_was_not_trained_is_named(tmp_path):
    experiment = stages_of(CONTENT, "m.yaml").experiments(tmp_path)["finetune"]
    with pytest.raises(
        InputError, match=r"expected a directory for seed 0, found no .*step-000006"
    ):
        prepare(experiment)


def test_from_scratch_arms_are_named_by_their_own_stage():
    stages = stages_of(CONTENT, "file")
    names = {stage: list(e.arms) for stage, e in stages.from_scratch().items()}
    assert names == {"pretrain": ["ntp", "ctp"], "finetune": ["ntp", "ctp"]}


@pytest.mark.parametrize(
    ("baseline", "first", "last"),
    [("ntp-ctp", None, "ntp-ctp"), ("ntp", "ntp", None)],
    ids=["of the last stage", "of the first"],
)
def test_a_baseline_holds_in_the_stages_that_have_it(tmp_path, baseline, first, last):
    stages = stages_of(changed(comparison={"baseline": baseline}), "matrix.yaml")
    found = stages.experiments(tmp_path)
    assert [e.comparison.baseline for e in found.values()] == [first, last]
    assert len(stages.from_scratch()) == 2  # as a check before anything is trained


def test_a_baseline_that_no_stage_has_is_refused(tmp_path):
    stages = stages_of(changed(comparison={"baseline": "nobody"}), "matrix.yaml")
    with pytest.raises(InputError, match=r"comparison\.baseline: expected one of the arms"):
        stages.from_scratch()
