"""The experiment file: inheritance, overrides, shipped recipes, and the round trip through YAML."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp._core.options import Options
from ntpctp._core.yaml_loader import parse_value, read_yaml
from ntpctp.config import Evaluation, experiment_of, load_experiment
from ntpctp.config.stages import load_stages
from ntpctp.config.sweep import load_sweep
from tests.conftest import tiny_content

ROOT = Path(__file__).parents[2]
RECIPES = sorted(p for p in (ROOT / "recipes").rglob("*.yaml") if p.parent.name != "accelerate")
WITH_STAGES = [path for path in RECIPES if "stages" in read_yaml(path)[0]]
WITH_MAP = [path for path in RECIPES if "map" in read_yaml(path)[0]]


def test_shipped_recipes_are_found():
    assert len(RECIPES) >= 4 and WITH_STAGES


@pytest.mark.parametrize("path", WITH_STAGES, ids=lambda path: path.name)
def test_shipped_recipes_with_stages_load(path):
    stages = load_stages(path)
    assert len(stages.arms) >= 4 and len(stages.from_scratch()) == len(stages.stages)
    for experiment in stages.experiments(Path("runs") / stages.name).values():
        assert len(experiment.arms) >= 2 and len(experiment.seeds) >= 3


@pytest.mark.parametrize("path", WITH_MAP, ids=lambda path: path.name)
def test_shipped_recipes_with_a_map_load(path):
    found = load_sweep(path)
    assert len(found.experiments) >= 4 and list(found.levels) == list(found.experiments)
    for experiment in found.experiments.values():
        assert len(experiment.arms) >= 2 and len(experiment.seeds) >= 3


@pytest.mark.parametrize(
    "path", [p for p in RECIPES if p not in [*WITH_STAGES, *WITH_MAP]], ids=lambda path: path.name
)
def test_shipped_recipes_load_and_survive_the_round_trip(path):
    experiment = load_experiment(path)
    text = yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)
    assert experiment_of(parse_value(text), "again") == experiment
    assert len(experiment.arms) >= 2 and len(experiment.seeds) >= 3


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"checkpoint": "some/where"}},
        {"task": {"name": "prosqa", "test_path": "x.json"}},
        {"task": {"name": "prontoqa", "distractors": "none"}},
    ],
)
def test_resolved_file_can_be_loaded_again(changes):
    experiment = experiment_of(tiny_content(**changes), "first")
    assert experiment_of(experiment.model_dump(mode="json"), "again") == experiment


def test_arms_inherit_and_override():
    arms = {
        "plain": {"objective": "ctp"},
        "decayed": {"objective": "ctp", "training": {"weight_decay": 0.5}},
        "wide": {"objective": "ctp", "model": {"width": 32}},
    }
    experiment = experiment_of(tiny_content(arms=arms), "x")
    plain, decayed, wide = experiment.arms.values()
    assert plain.training == experiment.training and plain.model == experiment.model
    assert decayed.training.weight_decay == 0.5
    assert decayed.training.learning_rate == experiment.training.learning_rate
    assert (wide.model.width, wide.model.layers) == (32, experiment.model.layers)


def test_an_arm_may_set_a_field_to_null():
    arms = {
        "clipped": {"objective": "ctp"},
        "free": {"objective": "ctp", "training": {"max_grad_norm": None}},
    }
    experiment = experiment_of(tiny_content(arms=arms), "x")
    assert [arm.training.max_grad_norm for arm in experiment.arms.values()] == [1.0, None]


def test_an_arm_s_config_is_added_to_the_common_one():
    model = {"family": "gpt2", "config": {"activation_function": "relu"}}
    grid = {"objective": ["ntp", "ctp"], "model.config.scale_attn_weights": [True, False]}
    training = {"steps": 1, "batch_size": 1}
    base = tiny_content(model=model, training=training, arms=None)
    experiment = experiment_of({**base, "grid": grid}, "x")
    assert [arm.model.config for arm in experiment.arms.values()] == [
        {"activation_function": "relu", "scale_attn_weights": scaled} for scaled in (True, False)
    ] * 2


def test_overrides_reach_any_depth(tiny_file):
    experiment = load_experiment(
        tiny_file(task="addition"),
        [
            "task.digits=3",  # a bare name becomes a block
            "training.learning_rate=3e-4",
            "arms.ctp.training.weight_decay=0.2",
            "seeds=[4, 7]",
            "model={family: llama, width: 8, heads: 1}",
        ],
    )
    assert experiment.task.digits == 3
    assert experiment.training.learning_rate == 3e-4
    assert experiment.arms["ctp"].training.weight_decay == 0.2
    assert experiment.arms["ntp"].training.weight_decay == 0.01
    assert experiment.seeds == [4, 7]
    assert experiment.model.family == "llama"


def resolved(tmp_path, **changes):
    path = tmp_path / "resolved.yaml"
    experiment = experiment_of(tiny_content(**changes), "first")
    path.write_text(yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False))
    return path


@pytest.mark.parametrize(
    "override",
    [
        "training.steps=7",
        "training.budget={tokens: 10}",
        "model.width=32",
        "model={width: 32, heads: 1}",
    ],
)
def test_an_override_that_no_arm_would_see_is_refused(tmp_path, override):
    path = resolved(tmp_path)
    with pytest.raises(InputError, match=r"every arm of .* sets .* itself; change") as no:
        load_experiment(path, [override])
    instead = str(no.value).rpartition("the arm: ")[2]
    assert instead == f"arms.ntp.{override}"
    assert load_experiment(path, [instead]) != load_experiment(path)


def test_overrides_that_some_arm_sees_are_taken(tmp_path, tiny_file):
    path = resolved(tmp_path)
    found = load_experiment(path, ["seeds=[5]", "arms.ctp.model.width=32"])
    assert found.arms["ctp"].model.width == 32 and found.seeds == [5]
    same = load_experiment(tiny_file(), ["training.batch_size=8"])  # as it was
    assert same.training.batch_size == 8
    slow = {"objective": "ctp", "training": {"learning_rate": 1e-5}}
    path = tiny_file(arms={"ntp": {"objective": "ntp"}, "slow": slow})
    rates = load_experiment(path, ["training.learning_rate=0.5"]).arms
    assert [arm.training.learning_rate for arm in rates.values()] == [0.5, 1e-5]
    grid = {"objective": ["ntp", "ctp"], "training.weight_decay": [0.0, 0.1]}
    path = tiny_file(arms=None, grid=grid)
    with pytest.raises(InputError, match=r"change the grid: grid.training.weight_decay=\[\.\.\.\]"):
        load_experiment(path, ["training.weight_decay=0.5"])
    path = resolved(tmp_path, arms=None, grid=grid)
    with pytest.raises(InputError, match="change it in the file, in each of its arms"):
        load_experiment(path, ["training.weight_decay=0.5"])
    path = tiny_file(arms=None, grid=grid)
    load_experiment(path, ["training.steps=5", "grid.training.weight_decay=[0.5, 0.7]"])


def test_arms_that_are_none_are_told_as_such(tiny_file):
    with pytest.raises(InputError, match=r"arms\.ntp: expected a block of fields"):
        load_experiment(tiny_file(arms={"ntp": None, "ctp": None}), ["training.steps=5"])


def test_an_arm_s_budget_makes_an_override_of_steps_useless(tiny_file):
    arms = {"a": {"objective": "ntp", "training": {"budget": {"tokens": 1000}}}}
    with pytest.raises(InputError, match="every arm"):
        load_experiment(tiny_file(arms=arms), ["training.steps=5"])
    grid = {"objective": ["ntp", "ctp"], "training.budget": [{"tokens": 500}, {"tokens": 900}]}
    with pytest.raises(InputError, match=r"change the grid: grid\.training\.budget="):
        load_experiment(tiny_file(arms=None, grid=grid), ["training.steps=5"])


def test_checkpoint_steps():
    evaluation = experiment_of(tiny_content(evaluation={"every": 4}), "x").evaluation
    assert evaluation.checkpoint_steps(10) == [0, 4, 8, 10]
    assert evaluation.checkpoint_steps(8) == [0, 4, 8]
    only_ends = experiment_of(tiny_content(evaluation={}), "x").evaluation
    assert only_ends.checkpoint_steps(10) == [0, 10]


@pytest.mark.parametrize(
    "every, steps, expected",
    [
        ("log", 1, [0, 1]),
        ("log", 100, [0, 1, 2, 5, 10, 20, 50, 100]),
        ("log", 1001, [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1001]),
        ([7, 3, 3, 20], 12, [0, 3, 7, 12]),
        ([12], 12, [0, 12]),
    ],
)
def test_checkpoint_steps_that_are_not_even(every, steps, expected):
    assert Evaluation(every=every).checkpoint_steps(steps) == expected


@pytest.mark.parametrize("every", [0, -1, "logg", [], [5, 0], 2.5, True, [True]])
def test_checkpoint_steps_that_are_refused(every):
    with pytest.raises(ValidationError, match=r"1 validation error(.|\n)*expected a number of st"):
        Evaluation(every=every)


@pytest.mark.parametrize(
    "text, value",
    [("1e-3", 1e-3), ("1E5", 1e5), ("-2.5e+3", -2500.0), ("1.", 1.0), ("12", 12), ("on", True)],
)
def test_numbers_as_people_write_them(text, value):
    found = parse_value(text)
    assert found == value and type(found) is type(value)


def test_every_field_knows_its_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("# note\nname: x\ntask:\n  digits: 2\nlist:\n  - 1\n  - {a: 3}\n")
    content, lines = read_yaml(path)
    assert content == {"name": "x", "task": {"digits": 2}, "list": [1, {"a": 3}]}
    assert lines[("name",)] == 2 and lines[("task", "digits")] == 4
    assert lines[("list", 1, "a")] == 7


def all_options(of: type[Options] = Options) -> list[type[Options]]:
    return [option for child in of.__subclasses__() for option in (child, *all_options(child))]


def test_every_option_says_what_it_means():
    import ntpctp.analysis.pipeline  # noqa: F401 (defines all options)

    fields = [
        (option, name, field)
        for option in all_options()
        if option.__module__.startswith("ntpctp")
        for name, field in option.model_fields.items()
    ]
    assert len(fields) > 80
    for option, name, field in fields:
        assert name == "name" or field.description, f"{option.__name__}.{name}"


def test_what_a_task_has_computed_does_not_make_it_another():
    used, fresh = (experiment_of(tiny_content(), "x").task for _ in range(2))
    used.all_splits()
    assert used == fresh and used != fresh.model_copy(update={"digits": 2})


@pytest.mark.parametrize(
    "changes, match",
    [
        (
            {"training": {"budget": {"epoch": 1}, "batch_size": 1}},
            "training.budget.epoch: unknown field; did you mean 'epochs'",
        ),
        (
            {"task": {"name": "mixture", "parts": {"a": {"task": "parity", "wieght": 1}}}},
            "task.parts.a.wieght: unknown field; did you mean 'weight'",
        ),
        (
            {"task": {"name": "mixture", "parts": {"a": {"task": {"name": "parity", "bit": 1}}}}},
            "task.parts.a.task.bit: unknown field; did you mean 'bits'",
        ),
    ],
)
def test_a_misspelt_field_deep_inside_is_named_with_the_nearest_there(changes, match):
    with pytest.raises(InputError, match=match):
        experiment_of(tiny_content(**changes), "x")
