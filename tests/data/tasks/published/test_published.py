"""Published files in their exact layouts, and what a different layout is told."""

import json
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from ntpctp._core.errors import InputError
from ntpctp.data.leakage import check_disjoint
from ntpctp.data.tasks.published.formats import FORMATS
from ntpctp.data.tasks.published.published import Published

FIXTURES = Path(__file__).parents[3] / "fixtures" / "published"
FILES = {
    "clutrr": "clutrr.csv",
    "cogs": "cogs.tsv",
    "gsm8k": "gsm8k.jsonl",
    "logicasker": "logicasker.csv",
    "prontoqa": "prontoqa.json",
    "ruletaker": "ruletaker.jsonl",
    "scan": "scan.txt",
}


def read(name, **options):
    """All examples of a fixture, in the order of the file."""
    task = Published(format=name, path=str(FIXTURES / FILES[name]), **options)
    examples = [*task.split("train"), *task.split("test")]
    return sorted(examples, key=lambda example: example.source)


def test_every_format_is_offered_and_has_a_fixture():
    assert set(FORMATS) == set(FILES) == set(get_args(Published.model_fields["format"].annotation))
    assert {path.name for path in FIXTURES.iterdir()} == {*FILES.values(), "clutrr_hub.csv"}


@pytest.mark.parametrize(
    "name, source, prompt, answer, choices",
    [
        (
            "clutrr",
            "clutrr.csv, line 3",
            "[Ada] is the mother of [Joe]. [Joe] took his sister [Pia] home. How is Ada related to "
            "Pia?\n",
            "mother",
            (),
        ),
        (
            "cogs",
            "cogs.tsv, line 1",
            "A cat slept .\n",
            "cat ( x _ 1 ) AND sleep . agent ( x _ 2 , x _ 1 )",
            (),
        ),
        (
            "gsm8k",
            "gsm8k.jsonl, line 2",
            "Ann\u2019s farm sells 900 eggs a week for $2 each. What does she earn in two weeks?\n",
            "3600",
            (),
        ),
        (
            "logicasker",
            "logicasker.csv, line 2",
            "Consider the following premises: Ann is sad and it is cold. Can we infer the "
            "following from them? Answer yes or no: It is cold and Ann is sad.\n",
            "yes",
            ("yes", "no"),
        ),
        (
            "prontoqa",
            "prontoqa.json, example1",
            "Every wumpus is a yumpus. Yumpuses are not shy. Each zumpus is shy. Max is a wumpus. "
            "True or false: Max is shy.\n",
            "False",
            ("True", "False"),
        ),
        (
            "ruletaker",
            "ruletaker.jsonl, line 1, question 2",
            "Anne is red. Red people are kind. If someone is kind and big then they are nice. True "
            "or false: Anne is nice.\n",
            "False",
            ("True", "False"),
        ),
        ("scan", "scan.txt, line 2", "walk left after run\n", "I_RUN I_TURN_LEFT I_WALK", ()),
    ],
)
def test_layouts(name, source, prompt, answer, choices):
    examples = read(name)
    assert len(examples) == (2 if name in ("clutrr", "prontoqa") else 3)
    (example,) = [e for e in examples if e.source == str(FIXTURES / source)]
    assert (example.text("prompt"), example.answer, example.choices) == (prompt, answer, choices)
    assert example.text("reasoning") == ""


def test_clutrr_of_the_hub_says_the_same():
    hub, own = (
        list(FORMATS["clutrr"](FIXTURES / name)) for name in ("clutrr_hub.csv", "clutrr.csv")
    )
    assert [item[1:] for item in hub] == [item[1:] for item in own] and len(hub) == 2


def test_reasoning():
    gsm8k = read("gsm8k", reasoning=True)
    assert [e.answer for e in gsm8k] == ["56", "3600", "-3"]
    assert gsm8k[0].text("reasoning") == (
        "There are 5*12=60 pens.\nWithout the lost ones there are 60-4=56 pens.\nAnswer: "
    )
    prontoqa = read("prontoqa", reasoning=True)
    assert prontoqa[1].text("reasoning").endswith("Each impus is small. Fae is small.\nAnswer: ")
    assert all(e.answer_marker == "Answer: " for e in gsm8k + prontoqa)


@pytest.mark.parametrize("final, answer", [("1,234", "1234"), ("12.", "12"), ("-0.5", "-0.5")])
def test_numbers_are_normalised(tmp_path, final, answer):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"question": "?", "answer": f"So.\n#### {final}"}), "utf-8")
    assert [item.answer for item in FORMATS["gsm8k"](file)] == [answer]


def test_questions_on_one_rule_base_stay_on_one_side():
    for seed in range(4):
        task = Published(format="ruletaker", path=str(FIXTURES / FILES["ruletaker"]), seed=seed)
        lines = [
            sorted(e.source.split(", ")[1] for e in task.split(name)) for name in ("train", "test")
        ]
        assert sorted(lines) == [["line 1", "line 1"], ["line 2"]]
        check_disjoint(task.all_splits())


def test_all_three_splits(tmp_path):
    paths = {}
    for name in ("path", "test_path", "ood_path"):
        paths[name] = str(tmp_path / name)
        Path(paths[name]).write_text(f"IN: {name} OUT: I_RUN\nIN: {name} twice OUT: I_RUN", "utf-8")
    task = Published(format="scan", **paths)
    assert task.evaluation_splits == ("test", "ood")
    for split, name in {"train": "path", "test": "test_path", "ood": "ood_path"}.items():
        assert [e.text("prompt") for e in task.split(split)] == [f"{name}\n", f"{name} twice\n"]


def test_shared_items_are_an_error_or_left_out_of_train(tmp_path):
    train, test = tmp_path / "train", tmp_path / "test"
    train.write_text("IN: a OUT: A\nIN: b OUT: B\n", "utf-8")
    test.write_text("IN: b OUT: B\n", "utf-8")
    options = {"format": "scan", "path": str(train), "test_path": str(test)}
    with pytest.raises(InputError, match=r"train, line 2\) and 'test' \(.*test, line 1\) share an"):
        check_disjoint(Published(**options).all_splits())
    task = Published(**options, drop_shared=True)
    check_disjoint(task.all_splits())
    assert [e.answer for e in task.split("train")] == ["A"]


@pytest.mark.parametrize(
    "name, content, match",
    [
        ("cogs", "a\tb\tc\nx y", "line 2: expected sentence, logical form and type .* 1 columns"),
        ("scan", "\nIN: run", "line 2: expected 'IN: command OUT: actions', found 'IN: run'"),
        ("scan", "IN: run OUT:  ", "line 1: expected 'IN: command OUT: actions'"),
        ("scan", "", "expected at least one scan item, found none"),
        ("gsm8k", '{"question": "?", "answer": "4"}', "line 1: field 'answer': expected it to end"),
        ("gsm8k", '{"question": "?", "answer": "#### x"}', "and a number, found '#### x'"),
        ("gsm8k", '{"answer": "#### 1", "q": 1}', r"field 'question' is missing .*answer, q\)"),
        ("logicasker", "query,answer\nq,maybe", "line 2: field 'answer': expected one of yes, no"),
        ("logicasker", "querry,answer\nq,no", "'query' is missing; did you mean 'querry'"),
        ("logicasker", "query,answer\nq", "line 2: field 'answer' is missing"),
        ("clutrr", "story,query,target\ns,Ann,son", "'query': expected two names .* found 'Ann'"),
        (
            "clutrr",
            "story,query,target\ns,\"('A', 'B')\",7",
            "found the number 7, and the field 'target_text' is missing",
        ),
        (
            "ruletaker",
            '{"context": "c", "questions": ["q"]}',
            "line 1, question 1: expected a JSON",
        ),
        (
            "ruletaker",
            '{"context": "c", "questions": [{"text": "t", "label": 1}]}',
            "question 1: field 'label': expected bool, found int '1'",
        ),
        ("prontoqa", "[]", "expected a JSON object of examples, found list"),
        ("prontoqa", '{"e1": 3}', "e1: expected a JSON object, found int"),
        ("prontoqa", '{"e1": {"test": {}}}', "e1: field 'test_example' is missing"),
        (
            "prontoqa",
            '{"e1": {"test_example": {"question": "", "query": "", "chain_of_thought": [], '
            '"answer": "Yes"}}}',
            "e1: field 'answer': expected one of True, False, found 'Yes'",
        ),
    ],
)
def test_other_layouts_are_named(tmp_path, name, content, match):
    file = tmp_path / "data"
    file.write_text(content, "utf-8")
    with pytest.raises(InputError, match=rf"data[,:].*{match}"):
        Published(format=name, path=str(file)).split("train")


def test_not_utf8_no_file_and_a_directory(tmp_path):
    file = tmp_path / "data"
    file.write_bytes(b"IN: \xe9 OUT: a")
    with pytest.raises(InputError, match="data: expected UTF-8 text"):
        Published(format="scan", path=str(file)).split("train")
    with pytest.raises(InputError, match="data: expected UTF-8 text"):
        Published(format="clutrr", path=str(file)).split("train")
    file.write_text('query,answer\n"q,no', "utf-8")
    with pytest.raises(InputError, match=r"line 2: expected CSV: unexpected end of data"):
        Published(format="logicasker", path=str(file)).split("train")
    with pytest.raises(InputError, match="none: expected a scan file, found no such file"):
        Published(format="scan", path=str(tmp_path / "none")).split("train")
    with pytest.raises(InputError, match="expected a scan file, found a directory"):
        Published(format="scan", path=str(tmp_path)).split("train")


def test_options_are_checked():
    with pytest.raises(ValidationError, match="format scan has no reasoning"):
        Published(format="scan", path="a", reasoning=True)


def test_unknown_split():
    task = Published(format="scan", path=str(FIXTURES / FILES["scan"]))
    with pytest.raises(InputError, match="unknown split of published 'ood'"):
        task.split("ood")
