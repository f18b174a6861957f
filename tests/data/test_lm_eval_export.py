"""Tasks as files for lm-eval: what is in them, what is refused, and what is shipped."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from ntpctp._core.errors import InputError
from ntpctp.data import lm_eval_template
from ntpctp.data.example import Example, Message, Segment
from ntpctp.data.lm_eval_export import Differing, check_encoding, export
from ntpctp.data.tasks.base import Task
from ntpctp.data.tokenize import closed_tokenizer
from ntpctp.measures import metrics
from tests.data.published_tokenizer import gpt2_tokenizer

SHIPPED = Path(__file__).parents[2] / "evaluation" / "lm_eval_tasks"


class Given(Task):
    """Examples as a test states them."""

    name: str = "given"
    examples: list

    @property
    def evaluation_splits(self):
        return ("test",)

    def split(self, name):
        return self.examples


def asked(prompt, answer, **fields):
    return Example((Segment("prompt", prompt), Segment("answer", answer)), **fields)


def exported(directory, examples, **options):
    export(Given(examples=examples), directory, **options)
    lines = (directory / "ntpctp_given_test.jsonl").read_text().splitlines()
    text = (directory / "ntpctp_given_test.yaml").read_text()
    config = yaml.safe_load(re.sub("!function ", "", text))
    return config, [json.loads(line) for line in lines]


@pytest.mark.slow
def test_what_is_shipped_is_what_the_commands_of_its_readme_make(tmp_path, ntpctp):
    commands = re.findall(
        "^ntpctp (tasks .* --max-items 100)$", (SHIPPED / "README.md").read_text(), re.M
    )
    assert len(commands) == 11
    for command in commands:
        arguments = command.replace("evaluation/lm_eval_tasks", str(tmp_path))
        outcome = ntpctp(*shlex.split(arguments))
        assert outcome.code == 0, outcome.err
    fresh = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shipped = {
        p.name: p.read_bytes() for p in SHIPPED.iterdir() if p.suffix != ".md" and p.is_file()
    }
    assert fresh.keys() == shipped.keys() and len(fresh) == 2 * 20 + 1
    assert fresh == shipped
    assert sum(map(len, shipped.values())) < 1_500_000


def test_items_with_choices(tmp_path):
    config, items = exported(
        tmp_path,
        [asked("Is it?\n", "no", choices=("yes", "no")), asked("A", "b", choices=("b", "c"))],
    )
    assert items == [
        {"prompt": "Is it?\n", "choices": ["yes", "no"], "right": 1},
        {"prompt": "A", "choices": ["b", "c"], "right": 0},
    ]
    assert config["output_type"] == "multiple_choice" and config["target_delimiter"] == ""
    assert config["metadata"] == {"version": 1}


def test_reasoning_is_given_to_a_choice_and_written_for_an_answer(tmp_path):
    segments = (
        Segment("prompt", "Who? "),
        Segment("reasoning", "Well. So: "),
        Segment("answer", "Ann"),
    )
    _, (item,) = exported(
        tmp_path, [Example(segments, answer_marker="So: ", choices=("Ann", "Bo"))]
    )
    assert item["prompt"] == "Who? Well. So: "
    config, (item,) = exported(
        tmp_path, [Example(segments, answer_marker="So: ", normalise=("case",))]
    )
    assert item == {"prompt": "Who? ", "answer": "Ann", "marker": "So:", "rules": ["case"]}
    assert config["generation_kwargs"]["max_gen_toks"] == 2 * (len("Well. So: Ann") + 1)
    judge = lm_eval_template.judge_answer
    assert judge(item, ["So: Bo. So: ann "]) == {"exact_match": 1.0}
    assert judge(item, ["So: Ann. So: Bo"]) == {"exact_match": 0.0}
    assert judge(item, ["Ann"]) == {"exact_match": 0.0}
    assert judge({**item, "rules": []}, ["So: ann"]) == {"exact_match": 0.0}


def test_with_a_tokenizer_answers_are_as_it_decodes_them(tmp_path):
    tokenizer = closed_tokenizer(["Who? son-in-law yes no"], "words")
    config, (item,) = exported(tmp_path, [asked("Who? ", "son-in-law")], tokenizer=tokenizer)
    assert item["answer"] == tokenizer.decode(tokenizer("son-in-law").input_ids) != "son-in-law"
    assert config["generation_kwargs"]["max_gen_toks"] == 6  # five tokens and the end
    assert config["metadata"]["eos_token"] == "<eos>"


def test_an_answer_by_rules_may_be_twice_as_long_as_its_reference(tmp_path):
    """But no prompt is cut for it; "1,234." is right, and longer than "1234"."""
    tokenizer = closed_tokenizer(["0123456789,.=?"], "characters")
    examples = [
        asked("=", "1234", normalise=("number", "full_stop")),
        asked("?" * 9, "7", normalise=("number", "full_stop")),
    ]

    def limit(**options):
        config, items = exported(tmp_path, examples, **options)
        written = "1,234."
        assert lm_eval_template.judge_answer(items[0], [written]) == {"exact_match": 1.0}
        return config["generation_kwargs"]["max_gen_toks"]

    assert limit() == limit(tokenizer=tokenizer) == 2 * (len("1234") + 1)
    assert limit(tokenizer=tokenizer, context=100) == 10
    assert limit(tokenizer=tokenizer, context=9 + 7) == 7
    assert limit(tokenizer=tokenizer, context=9) == len("1234") + 1  # what is cut is told


def test_judging_is_that_of_the_metrics():
    for sums in ([-1.0, -2.0], [-2.0, -1.0], [-1.0, -1.0], [-4.0, -6.0], [-2.0, -4.0]):
        for texts in (["ab", "abcdef"], ["a", "bc"]):
            for right in (0, 1):
                found = lm_eval_template.judge_choice(
                    {"choices": texts, "right": right}, [(value, False) for value in sums]
                )
                assert found == {
                    "acc": metrics.choice_correct(sums, right),
                    "acc_norm": metrics.normalised_choice_correct(sums, texts, right),
                }


def test_encoding_is_compared_item_by_item(tmp_path):
    words = closed_tokenizer(["Is it so? yes no ."], "words")
    examples = [asked("Is it so?\n", "yes", choices=("yes", "no")), asked("Is it so?", "no")]
    assert check_encoding(examples, words) == Differing(0, 0)
    characters = closed_tokenizer(["Is it so?\n yes no"], "characters")
    assert check_encoding(examples, characters) == Differing(0, split_elsewhere=1)
    # Byte pairs join what is encoded apart here: "2" and "3" are one token together.
    pairs = gpt2_tokenizer(tmp_path, "")
    examples = [asked("2", "3", choices=("3", " 4")), asked("The", "x")]
    assert check_encoding(examples, pairs) == Differing(other_tokens=1, split_elsewhere=0)


def test_what_differs_is_said(tmp_path, ntpctp):
    closed_tokenizer(["0123456789+= \n"], "characters").save_pretrained(tmp_path / "digits")
    arguments = ["digits=1", "train_size=9", "test_size=9", "--export", tmp_path / "out"]
    outcome = ntpctp("tasks", "addition", *arguments, "--tokenizer", tmp_path / "digits")
    assert outcome.code == 0, outcome.err
    assert "ntpctp_addition_test: 9 items, judged by answer" in outcome.out
    assert "lm-eval tokenizes all items like ntpctp" in outcome.out
    (tmp_path / "digits" / "config.json").write_text('{"model_type": "gpt2", "n_positions": 6}')
    outcome = ntpctp("tasks", "addition", *arguments, "--tokenizer", tmp_path / "digits")
    assert "9 prompts with their longest answer exceed the model's context" in outcome.out


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "the split 'test' has no example"),
        ([Example(messages=(Message("user", "a"), Message("assistant", "b")))], "chat messages"),
        ([Example((Segment("text", "once"),))], "is plain text without a question"),
        ([asked("a", "b", choices=("b",)), asked("a", "b")], "some examples of the split"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, examples, message):
    with pytest.raises(InputError, match=message):
        exported(tmp_path / "out", examples)
    assert not (tmp_path / "out").exists()


def test_unknown_names_are_refused(tmp_path, ntpctp):
    outcome = ntpctp("tasks", "addition", "--export", tmp_path, "--split", "tst")
    assert (
        outcome.code == 2 and "unknown split of addition 'tst'; did you mean 'test'?" in outcome.err
    )
    outcome = ntpctp("tasks", "--export", tmp_path)
    assert outcome.code == 2 and "--export needs the name of a task" in outcome.err


def test_train_is_exported_when_it_is_asked_for(tmp_path, ntpctp):
    arguments = ["digits=1", "train_size=9", "test_size=9", "--as", "sums", "--max-items", 4]
    splits = ["--split", "train", "--split", "test"]
    assert ntpctp("tasks", "addition", *arguments, *splits, "--export", tmp_path).code == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"ntpctp_sums_train.yaml", "ntpctp_sums_test.jsonl"} < names
    assert len((tmp_path / "ntpctp_sums_train.jsonl").read_text().splitlines()) == 4
