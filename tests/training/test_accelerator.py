"""accelerate's variables: what they may not change, and what is said where they are no use."""

import pytest
import torch
from accelerate.state import AcceleratorState

from ntpctp._core.errors import InputError
from ntpctp._core.signals import Stopped
from ntpctp.training.accelerator import accelerator_here

LAUNCH = "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"


@pytest.fixture(autouse=True)
def fresh_state():
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_accumulation_would_change_what_is_trained(monkeypatch):
    assert accelerator_here(trains=True).gradient_accumulation_steps == 1
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(InputError, match=r"accumulate 4 batches.*Unset ACCELERATE_GRADIENT"):
        accelerator_here(trains=True)
    assert accelerator_here().gradient_accumulation_steps == 4  # of no matter to an evaluation


def test_what_is_compiled_is_not_the_environment_s_to_say(monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "AOT_EAGER")
    assert accelerator_here(trains=True).state.dynamo_plugin.backend.value == "NO"
    model = torch.nn.Linear(2, 2)
    assert accelerator_here(trains=True).prepare(model) is model


@pytest.mark.parametrize("error", [Stopped(), OSError(28, "No space left")])
def test_what_is_no_fault_of_the_settings_passes(monkeypatch, error):
    def fails(**options):
        raise error

    monkeypatch.setattr("ntpctp.training.accelerator.Accelerator", fails)
    with pytest.raises(type(error)):
        accelerator_here()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "x"},
            "'x'. Environment variables of accelerate that are set: ACCELERATE_GRAD",
        ),
        (
            {"ACCELERATE_USE_CPU": "perhaps"},
            "invalid truth value perhaps. Environment variables of accelerate that are set: ACC",
        ),
        (
            {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"},
            "LOCAL_RANK, RANK, WORLD_SIZE. Fix",
        ),
        ({"LOCAL_RANK": "abc"}, "Fix or unset them"),
    ],
)
def test_variables_that_are_no_use_are_named(monkeypatch, variables, said):
    for name in LAUNCH:  # accelerate sets some of them: none is to be there afterwards
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refused:
        accelerator_here(trains=True)
    assert "could not initialise accelerate: " in str(refused.value) and said in str(refused.value)


def test_a_run_under_accumulation_is_refused(ntpctp, tiny_file, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    outcome = ntpctp("train", tiny_file(), "--arm", "ntp", "--output", tmp_path / "out")
    assert outcome.code == 2 and "error: accelerate is set to accumulate 4 batches" in outcome.err
    assert not list(tmp_path.rglob("step-*"))
