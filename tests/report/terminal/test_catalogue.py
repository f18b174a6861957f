"""`ntpctp tasks`: options and splits of all tasks, and examples with the roles of their text."""

import json

from ntpctp.data.tasks import TASKS
from ntpctp.report.terminal.catalogue import examples_of, task_of


def test_all_tasks_are_listed_with_options_and_splits(ntpctp):
    outcome = ntpctp("tasks")
    assert outcome.code == 0
    for name, task in TASKS.items():
        assert name in outcome.out
        assert all(option in outcome.out for option in task.model_fields)
    assert "ood_hops" in outcome.out
    one = ntpctp("tasks", "addition").out
    assert "reverse" in one and "ood_hops" not in one


def test_examples_are_shown_by_role(ntpctp):
    outcome = ntpctp("tasks", "addition", "--show", 2, "--split", "test", "digits=3", "seed=1")
    assert outcome.code == 0
    example = task_of("addition", ["digits=3", "seed=1"]).split("test")[1]
    lines = [line.rstrip() for line in outcome.out.splitlines()]
    assert lines[0] == "addition: train 2,000, test 500 examples"
    at = lines.index("test example 1")
    assert lines[at + 1].split() == ["prompt", example.text("prompt")]
    assert lines[at + 2].split() == ["answer", example.answer]
    assert "test example 2" not in lines


def test_everything_that_an_example_has_is_shown(ntpctp, tmp_path):
    rows = [
        {
            "prompt": "Two?\n",
            "reasoning": "So.",
            "answer": "2 ",
            "choices": ["2 ", "3"],
            "spans": [[0, 3]],
        },
        {
            "messages": [
                {"role": "user", "content": "[b]a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": "d"},
            ]
        },
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = ntpctp("tasks", "jsonl", f"path={path}", f"test_path={path}", "--show", 2).out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert f"train example 0 ({path}, line 1)" in out.replace("\n", "")  # may be wrapped
    for line in (
        "prompt Two?\u21b5",
        "reasoning So.\u21b5",
        "#### \u2423",
        "answer 2 \u2423",
        "(choices) 2 | 3",
        "(critical) Two",
        "user [b]a",  # brackets are text, not markup
        "assistant b",
        "answer d",
    ):
        assert line in lines


def test_roles_have_colours():
    from rich.console import Console

    console = Console(force_terminal=True, color_system="standard", width=80, record=True)
    for part in examples_of(
        task_of("addition", ["digits=1", "train_size=9", "test_size=9"]), "train", 1
    ):
        console.print(part)
    text = console.export_text(styles=True)
    example = task_of("addition", ["digits=1", "train_size=9", "test_size=9"]).split("train")[0]
    assert f"\x1b[2m{example.text('prompt')}\x1b[0m" in text
    assert f"\x1b[1;32m{example.answer}" in text


def test_mistakes_are_named(ntpctp):
    for arguments, message in (
        (["adition"], "unknown task 'adition'; did you mean 'addition'?"),
        (["addition", "digts=3"], "addition: digts: unknown field; did you mean 'digits'?"),
        (["addition", "digits=0"], "addition: digits: expected greater than or equal to 1"),
        (["addition", "digits=1", "train_size=99"], "addition: train_size + test_size = 599"),
        (["addition", "digits"], "'digits': expected key=value"),
        (["jsonl", "--show", 1], "jsonl: path: required field is missing"),
        (["addition", "--show", 1, "--split", "dev"], "unknown split of addition 'dev'"),
        (["--show", 1], "--show needs the name of a task"),
    ):
        outcome = ntpctp("tasks", *arguments)
        assert outcome.code == 2 and message in outcome.err, outcome.err


def test_measures_and_their_options(ntpctp):
    from ntpctp.measures import MEASURES

    everything = ntpctp("measures")
    assert everything.code == 0 and all(name in everything.out for name in MEASURES)
    one = ntpctp("measures", "robustness")
    assert (
        "modules" in one.out and "transformer.h.0" in one.out and "half_strength_noise" in one.out
    )
    unknown = ntpctp("measures", "robustnes")
    assert unknown.code == 2 and "did you mean 'robustness'?" in unknown.err
