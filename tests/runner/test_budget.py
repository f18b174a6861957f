"""Budgets become steps: closed forms, a step-by-step count, and what is refused."""

import math
from itertools import count

import pytest
import yaml

from ntpctp._core.errors import InputError
from ntpctp.config import experiment_of
from ntpctp.config.stages import stages_of
from ntpctp.models.flops import training_flops
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.runner.budget import amounts_at, expected_flops, with_steps
from ntpctp.runner.prepare import initial_model, prepare
from ntpctp.runner.stages import prepare_stages
from tests.config.test_stages import changed, with_stage

# One-digit sums: "3+4=07" and the end of sequence, 7 tokens, 3 of them the answer's.
TOKENS, ANSWER = 7, 3
EXAMPLES, BATCH = 60, 8


def of(tiny, budget, **changes):
    changes = {"arms": {"ntp": {"objective": "ntp"}, "ctp": {"objective": "ctp"}}, **changes}
    return tiny(
        task={"name": "addition", "digits": 1, "train_size": EXAMPLES, "test_size": 10},
        training={"budget": budget, "batch_size": BATCH},
        **changes,
    )


def steps(experiment):
    found = with_steps(experiment)
    return {name: arm.training.steps for name, arm in found.arms.items()}


@pytest.mark.parametrize(
    "budget, ntp, ctp",
    [
        ({"epochs": 2.0}, 15, 15),
        ({"epochs": 2.1}, 16, 16),
        ({"epochs": 0.01}, 1, 1),
        ({"tokens": BATCH * TOKENS * 5}, 5, 5),
        ({"tokens": BATCH * TOKENS * 5 + 1}, 6, 6),
        ({"supervised_tokens": 1000}, math.ceil(1000 / (BATCH * 6)), math.ceil(1000 / (BATCH * 3))),
    ],
)
def test_closed_forms(tiny, budget, ntp, ctp):
    assert steps(of(tiny, budget)) == {"ntp": ntp, "ctp": ctp}


def test_operations(tiny):
    experiment = of(tiny, {"flops": 1e8})
    model = initial_model(experiment.arms["ntp"], prepare(experiment), 0)
    for name, seen in (("ntp", TOKENS - 1), ("ctp", ANSWER)):
        (a_row,) = training_flops(model, [TOKENS], [seen])
        assert steps(experiment)[name] == math.ceil(1e8 / (a_row * BATCH))


TO_CTP = [{"objective": "ntp", "until": 9}, {"objective": "ctp"}]
AND_BACK = [
    {"objective": "ctp", "until": 7}, {"objective": "ntp", "until": 14}, {"objective": "ctp"},
]  # fmt: skip


@pytest.mark.parametrize("phases", [TO_CTP, AND_BACK])
@pytest.mark.parametrize("fade", [0, 4])
@pytest.mark.parametrize("amount", [100, 250, 700, 3000])
def test_a_schedule_step_by_step(tiny, phases, fade, amount):
    arms = {"s": {"objective": {"name": "schedule", "phases": phases, "fade": fade}}}
    experiment = of(tiny, {"supervised_tokens": amount}, arms=arms)
    rows = SupervisedExamples(
        prepare(experiment).splits["train"].encoded, experiment.arms["s"].objective
    )
    reached = 0
    for step in count():
        # All rows are alike, so any batch costs the same.
        reached += int(rows.batch(range(BATCH), step)["num_supervised"])
        if reached >= amount:
            break
    assert steps(experiment) == {"s": step + 1}


@pytest.mark.parametrize("phases", [TO_CTP, AND_BACK])
@pytest.mark.parametrize("fade", [0, 4])
def test_what_is_spent_until_each_checkpoint(tiny, phases, fade):
    arms = {"s": {"objective": {"name": "schedule", "phases": phases, "fade": fade}}}
    experiment = of(tiny, {"supervised_tokens": 2000}, arms=arms)
    data = prepare(experiment)
    rows = SupervisedExamples(data.splits["train"].encoded, experiment.arms["s"].objective)
    costs = [int(rows.batch(range(BATCH), step)["num_supervised"]) for step in range(40)]
    checkpoints = [0, 3, 9, 11, 25, 40]
    found = amounts_at(experiment.arms["s"], data, 0, "supervised_tokens", checkpoints)
    assert found == pytest.approx([sum(costs[:step]) for step in checkpoints])
    assert len({*costs}) > 1


def test_operations_are_written_for_every_checkpoint_or_why_not(tiny, monkeypatch):
    experiment = with_steps(of(tiny, {"epochs": 2.0}))
    data = prepare(experiment)
    found = expected_flops(experiment, data)
    model = initial_model(experiment.arms["ctp"], data, 0)
    (a_row,) = training_flops(model, [TOKENS], [ANSWER])
    assert found["ctp"]["steps"] == experiment.evaluation.checkpoint_steps(15)
    expected = [a_row * BATCH * step for step in found["ctp"]["steps"]]
    assert found["ctp"]["flops"] == pytest.approx(expected)

    def unknown(*_):
        raise AttributeError("no attribute 'num_attention_heads'")

    monkeypatch.setattr("ntpctp.runner.budget.training_flops", unknown)
    found = expected_flops(experiment, data)
    assert found["ntp"]["flops"] is None
    assert found["ntp"]["reason"] == (
        "operations of this model are not known: no attribute 'num_attention_heads'"
    )


def test_selective_counts_what_it_keeps(tiny):
    arms = {"rho": {"objective": {"name": "selective", "reference": "x", "fraction": 0.5}}}
    experiment = of(tiny, {"supervised_tokens": 240}, arms=arms)
    assert steps(experiment) == {"rho": 240 // (3 * BATCH)}  # half of 6 tokens a row


def test_an_arm_may_say_it_otherwise(tiny):
    arms = {
        "steps": {"objective": "ntp", "training": {"steps": 3}},
        "tokens": {"objective": "ctp", "training": {"budget": {"tokens": 100}}},
        "usual": {"objective": "ctp"},
    }
    experiment = of(tiny, {"epochs": 1.0}, arms=arms)
    assert experiment.arms["steps"].training.budget is None
    assert steps(experiment) == {"steps": 3, "tokens": 2, "usual": 8}


def test_the_resolved_file_says_both_and_can_be_run_itself(tiny):
    resolved = with_steps(of(tiny, {"epochs": 2.0}))
    text = yaml.safe_dump(resolved.model_dump(mode="json"))
    again = experiment_of(yaml.safe_load(text), "experiment.yaml")
    assert again == resolved == with_steps(again)
    assert again.arms["ctp"].training.budget.epochs == 2 and again.arms["ctp"].training.steps == 15


def test_without_budgets_nothing_is_read(tiny):
    experiment = tiny(task={"name": "jsonl", "path": "missing.jsonl"}, tokenizer="characters")
    assert with_steps(experiment) is experiment


def test_stages(tmp_path):
    training = {"budget": {"epochs": 1.0}, "batch_size": 8}
    stages = stages_of(with_stage("finetune", training=training), "file")
    found = prepare_stages(stages, tmp_path).experiments(tmp_path)
    assert {a.training.steps for a in found["pretrain"].arms.values()} == {6}
    assert {a.training.steps for a in found["finetune"].arms.values()} == {8}
    (budget,) = {a.training.budget for a in found["finetune"].arms.values()}
    assert budget.epochs == 1


def test_a_first_stage_with_a_budget_names_the_checkpoint_that_it_ends_with(tmp_path):
    content = with_stage(
        "pretrain", training={"budget": {"supervised_tokens": 300}, "batch_size": 8}
    )
    grid = {"model.init_rate": [0.4, 0.6], **content["grid"]}
    found = prepare_stages(stages_of({**content, "grid": grid}, "file"), tmp_path)
    checkpoint = found.experiments(tmp_path)["finetune"].arms["0.4-ctp-ntp"].model.checkpoint
    assert checkpoint.endswith(f"/step-{math.ceil(300 / (8 * 3)):06d}")


@pytest.mark.parametrize(
    "training, match",
    [
        ({}, "expected steps or a budget, found neither"),
        ({"steps": 0}, "expected steps or a budget, found neither"),
        ({"budget": {}}, "expected one of epochs, tokens, supervised_tokens, flops, found none"),
        ({"budget": {"epochs": 1.0, "tokens": 5}}, "found epochs, tokens"),
        ({"budget": {"epoch": 1.0}}, "epoch"),
    ],
)
def test_what_is_refused_in_the_file(tiny, training, match):
    with pytest.raises(InputError, match=match):
        tiny(training={"batch_size": 8, **training})


def test_what_is_refused_with_the_data(tiny):
    both = tiny(training={"steps": 3, "budget": {"tokens": 10**6}, "batch_size": 8})
    with pytest.raises(InputError, match=r"gives .* steps, but training.steps is 3. Omit one"):
        with_steps(both)
    warm = of(tiny, {"epochs": 1.0}).model_dump(mode="json")
    warm["arms"]["ctp"]["training"]["warmup_steps"] = 20
    with pytest.raises(InputError, match=r"gives 8 steps: .*warmup_steps 20 exceeds steps 8"):
        with_steps(experiment_of(warm, "file"))


def test_grids_over_budgets():
    budgets = {"a": {"epochs": 1.0}, "b": {"epochs": 2.0}}
    content = changed(
        stages=None,
        task={"name": "addition", "digits": 2},
        training={"steps": 5, "batch_size": 8},
        grid={
            "objective": ["ntp", "ctp"],
            "training.budget": budgets,
        },
    )
    arms = experiment_of(content, "file").arms
    assert [arm.training.budget.epochs for arm in arms.values()] == [1, 2, 1, 2]
    assert all(arm.training.steps == 0 for arm in arms.values())


def test_operations_of_a_later_stage_are_those_of_the_arm_s_own_model(tmp_path):
    training = {"budget": {"flops": 2e7}, "batch_size": 8}
    content = with_stage("finetune", training=training)
    grid = {"model.width": {"narrow": 8, "wide": 16}, "finetune.objective": ["ctp", "ntp"]}
    stages = {
        **content["stages"],
        "pretrain": {**content["stages"]["pretrain"], "objective": "ntp"},
    }
    content = {**content, "stages": stages, "grid": grid}
    found = prepare_stages(stages_of(content, "file"), tmp_path).experiments(tmp_path)["finetune"]
    length = {name: arm.training.steps for name, arm in found.arms.items()}
    for name, width in {"narrow-ctp": 8, "wide-ctp": 16}.items():
        # 10 tokens, 4 of them the answer's; a layer of 12 width^2, a vocabulary of 15.
        row = 3 * (2 * 12 * width**2 * 10 + 2 * 15 * width * 4 + 4 * width * 10**2)
        assert length[name] == math.ceil(2e7 / (8 * row))
    assert length["wide-ctp"] < length["narrow-ctp"]
