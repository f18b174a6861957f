"""Suites: the files that are shipped, and what is said of a bad one."""

from pathlib import Path

import pytest

from ntpctp._core.errors import InputError
from ntpctp.config.suite import load_suite

SUITES = Path(__file__).parents[2] / "evaluation" / "suites"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "suite.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", ["full", "quick"])
@pytest.mark.slow
def test_shipped_suites_are_sound(name):
    suite = load_suite(SUITES / f"{name}.yaml")
    assert suite.name == name and suite.own_task
    for task in suite.tasks.values():
        assert len(task.split(task.evaluation_splits[0])) >= 100


def test_all_errors_are_shown_at_once_with_their_lines(write):
    path = write(
        "name: bad suite\n"
        "tasks:\n"
        "  sums: {name: addition, digitz: 2}\n"
        "  other: prontoqua\n"
        "measures: [accuracy, {name: robustness, draw: 1}]\n"
        "batch_token: 5\n"
    )
    with pytest.raises(InputError) as raised:
        load_suite(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: 5 errors\n")
    assert "line 1: name: expected a name of letters" in message
    assert "line 3: tasks.sums.digitz: unknown field; did you mean 'digits'?" in message
    assert "line 4: tasks.other: unknown name 'prontoqua'; did you mean 'prontoqa'?" in message
    assert "line 5: measures.1.draw: unknown field; did you mean 'draws'?" in message
    assert "line 6: batch_token: unknown field; did you mean 'batch_tokens'?" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nmeasures: [accuracy, accuracy]\n", "a measure is listed twice"),
        ("name: a\nmeasures: [accuracy]\nown_task: false\n", "own_task: false needs tasks"),
        ("name: a\n", "measures: required field is missing"),
        ("name: a\nmeasures: []\n", "expected at least 1 entry"),
    ],
)
def test_what_makes_no_sense_is_refused(write, text, message):
    with pytest.raises(InputError, match=message):
        load_suite(write(text))


def test_fields_can_be_set_from_outside(write):
    path = write("name: a\nmeasures: [accuracy]\n")
    assert load_suite(path, ["batch_tokens=64"]).batch_tokens == 64
