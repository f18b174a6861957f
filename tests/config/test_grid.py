"""Grids: every combination becomes an arm, and errors name the grid."""

import pytest

from ntpctp._core.errors import InputError
from ntpctp.config import experiment_of, load_experiment
from ntpctp.objectives import CTP
from tests.conftest import tiny_content


def experiment(grid, **changes):
    return experiment_of(tiny_content(arms=None, grid=grid, **changes), "tiny")


def test_every_combination_the_last_factor_changing_fastest():
    found = experiment(
        {"objective": ["ntp", "ctp"], "model.init_rate": {"small": 0.8, "large": 0.4}}
    )
    assert list(found.arms) == ["ntp-small", "ntp-large", "ctp-small", "ctp-large"]
    arm = found.arms["ctp-large"]
    assert (arm.objective.name, arm.model.init_rate) == ("ctp", 0.4)
    assert arm.model.width == 16 and arm.training == found.training  # inherited
    assert found.factors["ctp-large"] == {"objective": "ctp", "model.init_rate": "large"}


def test_levels_are_named_by_their_values():
    found = experiment(
        {
            "objective": ["ntp", {"name": "weighted", "prompt": 0.1}],
            "training.learning_rate": [1e-3, 0.5],
        }
    )
    assert list(found.arms) == ["ntp-0.001", "ntp-0.5", "weighted-0.001", "weighted-0.5"]


def test_an_arm_of_a_grid_equals_the_same_arm_written_out():
    gridded = experiment({"objective": ["ntp", "ctp"], "training.steps": [4, 6]})
    arms = {"a": {"objective": "ctp", "training": {"steps": 6}}, "b": {"objective": "ntp"}}
    written = experiment_of(tiny_content(arms=arms), "tiny")
    assert gridded.arms["ctp-6"] == written.arms["a"]


def test_the_resolved_file_reads_back_the_same():
    found = experiment({"objective": ["ntp", "ctp"]})
    assert experiment_of(found.model_dump(mode="json"), "resolved") == found


def test_errors_name_the_grid_and_its_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "name: bad\ntask: {name: addition, digits: 1, train_size: 60, test_size: 20}\n"
        "model: {family: gpt2, layers: 1, width: 16, heads: 2}\n"
        "training: {steps: 8, batch_size: 8}\nseeds: 1\ngrid:\n"
        "  objective: [ntp, ctpp]\n  training.stps: [1, 2]\n"
    )
    with pytest.raises(InputError) as error:
        load_experiment(path)
    assert str(error.value).splitlines()[1:] == [
        "  line 7: grid.objective: unknown name 'ctpp'; did you mean 'ctp'? (expected one of: ntp, "
        "ctp, weighted, partial, random, critical, shuffled, noisy, selective, schedule)",
        "  line 8: grid.training.stps: unknown field; did you mean 'steps'?",
    ]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([1], "grid: expected a map"),
        ({}, "grid: expected a map"),
        ({"objective": "ntp"}, r"grid.objective: expected a list of values, found 'ntp'"),
        ({"objective": ["ntp"]}, "grid.objective: expected at least two values, found 1"),
        (
            {"objective": [{"name": "partial", "keep": 0.1}, {"name": "partial", "keep": 0.2}]},
            r"the same name \(partial, partial\); name them",
        ),
        (
            {"objective": {"a": "ntp", "a-b": "ctp"}, "training.steps": {"b-c": 1, "c": 2}},
            "two combinations have the same name",
        ),
    ],
)
def test_what_is_no_grid(grid, message):
    with pytest.raises(InputError, match=message):
        experiment(grid)


def test_arms_and_grid_together_are_refused():
    with pytest.raises(InputError, match="both arms and grid"):
        experiment_of(tiny_content(grid={"objective": ["ntp", "ctp"]}), "tiny")


def test_a_grid_over_fields_of_one_objective():
    found = experiment(
        {"objective.rate": [0, 0.1], "objective.base": ["ntp", "ctp"]},
        objective={"name": "noisy", "seed": 3},
    )
    assert list(found.arms) == ["0-ntp", "0-ctp", "0.1-ntp", "0.1-ctp"]
    objective = found.arms["0.1-ntp"].objective
    assert (objective.name, objective.rate, objective.base, objective.seed) == (
        "noisy", 0.1, "ntp", 3,
    )  # fmt: skip
    assert experiment_of(found.model_dump(mode="json"), "resolved") == found
    # An arm that names its objective does not take over fields of another one.
    arms = {"noisy": {"objective": {"base": "ntp"}}, "ctp": {"objective": "ctp"}, "same": {}}
    written = experiment_of(
        tiny_content(arms=arms, objective={"name": "noisy", "rate": 0.2}), "tiny"
    )
    assert written.arms["noisy"].objective.rate == written.arms["same"].objective.rate == 0.2
    assert written.arms["ctp"].objective == CTP()
    short = experiment({"training.steps": [4, 6]}, objective="ctp")
    assert {arm.objective.name for arm in short.arms.values()} == {"ctp"}


@pytest.mark.parametrize(
    ("objective", "rates", "message"),
    [
        ({"name": "noisi"}, [0, 0.1], "objective: unknown name 'noisi'; did you mean 'noisy'?"),
        ({"name": "noisy", "bas": 1}, [0, 0.1], "objective.bas: unknown field; did you mean"),
        ({"name": "noisy"}, [0, 2], "grid.objective.rate: "),
        ([1], [0, 2], "objective: expected"),
    ],
)
def test_errors_in_the_objective_of_a_grid_are_named_once(objective, rates, message):
    with pytest.raises(InputError) as error:
        experiment({"objective.rate": rates}, objective=objective)
    lines = str(error.value).splitlines()
    assert len(lines) == 2 and message in lines[1], lines
