"""Bad input: one clear message with all errors, exit code 2, and nothing written."""

import json

import pytest
import yaml

from tests.conftest import tiny_content

JSONL = {"task": {"name": "jsonl", "path": "DIR/train.jsonl"}, "tokenizer": "characters"}


def items(number=20):
    return [{"prompt": f"{i}+1=", "answer": str(i + 1)} for i in range(number)]


def lines(rows):
    return "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)


# name: (changes to the experiment, arguments, messages that must all be there)
EXPERIMENTS = {
    "unknown field": ({"trainig": {}}, [], ["trainig: unknown field; did you mean 'training'?"]),
    "unknown nested field": (
        {"model": {"family": "gpt2", "layer": 2}},
        [],
        ["line ", "model.layer: unknown field; did you mean 'layers'?"],
    ),
    "wrong type": (
        {},
        ["training.steps=many"],
        ["training.steps: expected a whole number, found 'many'"],
    ),
    "true is no number": (
        {},
        ["training.steps=true"],
        ["training.steps: expected a whole number, found True"],
    ),
    "out of range": (
        {},
        ["training.batch_size=0"],
        ["training.batch_size: expected greater than or equal to 1, found 0"],
    ),
    "missing field": ({"model": None}, [], ["model: missing"]),
    "empty arms": ({"arms": {}}, [], ["arms: expected at least 1 entry"]),
    "arms alike": (
        {"arms": {"a": {"objective": "ntp"}, "b": {"objective": {"name": "ntp"}}}},
        [],
        ["arms: 'a' and 'b' are alike in every field"],
    ),
    "unknown objective": (
        {"arms": {"a": {"objective": "npt"}}},
        [],
        ["arms.a.objective: unknown name 'npt'; did you mean 'ntp'?"],
    ),
    "unknown task": ({"task": "adition"}, [], ["task: unknown name 'adition'; did you mean 'addi"]),
    "unknown measure": (
        {"evaluation": {"measures": ["acuracy"]}},
        [],
        ["unknown name 'acuracy'; did you mean 'accuracy'?"],
    ),
    "measure twice": (
        {"evaluation": {"measures": ["accuracy", "accuracy"]}},
        [],
        ["a measure stands twice"],
    ),
    "no seeds": ({}, ["seeds=0"], ["seeds: expected at least 1 seed, found 0"]),
    "empty seeds": ({"seeds": []}, [], ["seeds: expected at least 1 entry"]),
    "seed twice": ({"seeds": [1, 1]}, [], ["expected different non-negative numbers"]),
    "negative seed": ({"seeds": [-1]}, [], ["expected different non-negative numbers"]),
    "arm that leaves the directory": (
        {"arms": {"../x": {"objective": "ntp"}}},
        [],
        ["expected a name of letters, digits"],
    ),
    "experiment that leaves the directory": ({"name": "/tmp/x"}, [], ["name: expected a name of"]),
    "several errors at once": (
        {"seeds": 0, "nmae": "x"},
        ["training.steps=-1"],
        ["3 errors", "seeds:", "nmae:", "training.steps:"],
    ),
    "error in an arm's own block only": (
        {"arms": {"a": {"objective": "ntp", "training": {"weight_decays": 1}}}},
        [],
        ["1 error\n", "arms.a.training.weight_decays: unknown field; did you mean 'weight_decay'?"],
    ),
    "override without value": ({}, ["seeds"], ["'seeds': expected key=value"]),
    "override into a number": ({}, ["seeds.x=1"], ["'seeds' is not a block of fields but 2"]),
    "override that is no YAML": ({}, ["seeds=[1"], ["the value is not YAML"]),
    "unknown arm family": (
        {},
        ["model.family=gtp2"],
        ["unknown family 'gtp2'; did you mean 'gpt2'?"],
    ),
    "family that is not causal": ({}, ["model.family=bert"], ["'bert' looks at later tokens"]),
    "too few pairs": ({}, ["task.train_size=99"], ["give only 100 different pairs"]),
    "context too small": (
        {},
        ["model.context=4"],
        ["example 0: has 7 tokens", "context only 4", "nothing is cut"],
    ),
    "no such checkpoint": (
        {"model": {"checkpoint": "DIR/nowhere"}, "tokenizer": "characters"},
        [],
        ["cannot load a model from"],
    ),
}

# name: (content of the file or None, messages)
FILES = {
    "missing": (None, ["train.jsonl"]),
    "empty": ("", ["train.jsonl", "empty"]),
    "invalid JSON": (lines([items()[0], "{oops\n"]), ["train.jsonl, line 2", "invalid JSON"]),
    "no object": (lines([items()[0], "[1]\n"]), ["line 2: expected one JSON object, found list"]),
    "missing field": (lines([*items(3), {"prompt": "1"}]), ["line 4", "answer"]),
    "empty answer": (
        lines([*items(3), {"prompt": "1", "answer": " "}]),
        ["line 4", "empty answer"],
    ),
    "wrong type": (lines([*items(3), {"prompt": "1", "answer": 2.5}]), ["line 4", "answer"]),
    "answer not among the choices": (
        lines([{"prompt": "1", "answer": "2", "choices": ["3", "4"]}]),
        ["line 1", "not among the choices"],
    ),
}


def run_and_expect_refusal(ntpctp, tmp_path, content, arguments, messages):
    path = tmp_path / "experiment.yaml"
    text = yaml.safe_dump(content, sort_keys=False).replace("DIR", str(tmp_path))
    path.write_text(text)
    outcome = ntpctp("run", path, *arguments, "--output", tmp_path / "out")
    assert outcome.code == 2, outcome
    for message in messages:
        assert message in outcome.err, outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", EXPERIMENTS)
def test_experiment(ntpctp, tmp_path, case):
    changes, arguments, messages = EXPERIMENTS[case]
    run_and_expect_refusal(ntpctp, tmp_path, tiny_content(**changes), arguments, messages)


@pytest.mark.parametrize("case", FILES)
def test_own_file(ntpctp, tmp_path, case):
    text, messages = FILES[case]
    if text is not None:
        (tmp_path / "train.jsonl").write_text(text)
    run_and_expect_refusal(ntpctp, tmp_path, tiny_content(**JSONL), [], messages)


def test_directory_instead_of_a_file(ntpctp, tmp_path):
    (tmp_path / "train.jsonl").mkdir()
    run_and_expect_refusal(ntpctp, tmp_path, tiny_content(**JSONL), [], ["directory"])


@pytest.mark.parametrize("answer, prompt", [("7" * 40, "1="), ("7", "1" * 40)])
def test_too_long_is_never_cut(ntpctp, tmp_path, answer, prompt):
    (tmp_path / "train.jsonl").write_text(lines([*items(), {"prompt": prompt, "answer": answer}]))
    run_and_expect_refusal(
        ntpctp, tmp_path, tiny_content(**JSONL), ["model.context=16"], ["nothing is cut"]
    )


def test_open_text_needs_a_tokenizer(ntpctp, tmp_path):
    (tmp_path / "train.jsonl").write_text(lines(items()))
    content = {**tiny_content(**JSONL), "tokenizer": None}
    run_and_expect_refusal(
        ntpctp, tmp_path, content, [], ["tokenizer: the task 'jsonl' reads open text"]
    )


def test_shared_example_between_splits(ntpctp, tmp_path):
    (tmp_path / "train.jsonl").write_text(lines(items()))
    (tmp_path / "test.jsonl").write_text(lines([{"prompt": "x=", "answer": "1"}, items()[6]]))
    content = tiny_content(**JSONL)
    content["task"] = {**content["task"], "test_path": "DIR/test.jsonl"}
    run_and_expect_refusal(
        ntpctp, tmp_path, content, [], ["line 7", "line 2", "must not be trained on"]
    )


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "expected a YAML file, found nothing"),
        ("", "expected a map of fields, found an empty file"),
        ("- 1\n", "expected a map of fields, found a list"),
        ("a: [1\n", "line 2: expected YAML"),
        ("name: a\nname: b\n", "line 2: the field 'name' stands twice"),
        (b"\xff\xfe\xfa", "expected UTF-8 text"),
    ],
)
def test_experiment_file_itself(ntpctp, tmp_path, text, message):
    path = tmp_path / "experiment.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    outcome = ntpctp("run", path, "--output", tmp_path / "out")
    assert outcome.code == 2 and message in outcome.err
    assert not (tmp_path / "out").exists()


def test_experiment_file_that_is_a_directory(ntpctp, tmp_path):
    outcome = ntpctp("run", tmp_path)
    assert outcome.code == 2 and "expected a YAML file, found a directory" in outcome.err


def test_unknown_arm_and_seed_of_train(ntpctp, tiny_file, tmp_path):
    outcome = ntpctp("train", tiny_file(), "--arm", "npt", "--output", tmp_path / "out")
    assert outcome.code == 2 and "unknown arm 'npt'; did you mean 'ntp'?" in outcome.err
    outcome = ntpctp("train", tiny_file(), "--arm", "ntp", "--seed", "9", "--output", tmp_path)
    assert outcome.code == 2 and "seed 9 is not among the experiment's seeds [0, 1]" in outcome.err
    assert not (tmp_path / "out").exists()
