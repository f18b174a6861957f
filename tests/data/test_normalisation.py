"""Each rule on what it is for and on what it must leave alone; and the judge that applies it."""

import json

import numpy as np
import pytest

from ntpctp.data.normalisation import normalised
from ntpctp.data.tasks import JsonLines, Published
from ntpctp.measures import Accuracy
from ntpctp.measures.metrics import exact_match
from ntpctp.runner.prepare import prepare

ALL = ("case", "full_stop", "number", "space")


@pytest.mark.parametrize(
    "rules, answer, expected",
    [
        ((), " 1,234.  a ", "1,234.  a"),
        (("case",), "Straße TRUE", "strasse true"),
        (("full_stop",), "Paris.", "Paris"),
        (("full_stop",), "Paris .", "Paris"),
        (("full_stop",), "wait..", "wait."),  # one
        (("full_stop",), "1.5", "1.5"),
        (("number",), "1,234", "1234"),
        (("number",), "-1,234,567.50", "-1234567.50"),
        (("number",), "+12,000", "+12000"),
        (("number",), "007", "007"),
        (("number",), "12,34", "12,34"),  # no thousands
        (("number",), "1234,567", "1234,567"),
        (("number",), "1,2,3", "1,2,3"),  # a list
        (("number",), "about 1,234", "about 1,234"),
        (("number",), "1,234.", "1,234."),  # the full stop has a rule of its own
        (("full_stop", "number"), "1,234.", "1234"),
        (("number", "full_stop"), "1,234.", "1234"),  # in whatever order they are named
        (("space",), "a \n\t b", "a b"),
        (("space",), "A.", "A."),
        (ALL, "  About  1,000. ", "about 1,000"),
    ],
)
def test_every_rule(rules, answer, expected):
    assert normalised(answer, rules) == expected
    assert normalised(expected, rules) == expected or answer == "wait.."


def test_a_written_answer_is_judged_by_the_rules_of_its_example():
    for rules, right in (((), False), (("number",), False), (("number", "full_stop"), True)):
        assert exact_match("1,234.", "1234", rules) == right
        assert not exact_match("1,235.", "1234", rules)


def test_the_measure_applies_them(tiny, tmp_path, monkeypatch):
    from ntpctp.measures.computation import answers
    from ntpctp.measures.context import EvaluationContext
    from ntpctp.models.inference import Decoded, score_and_generate
    from ntpctp.runner.prepare import initial_model

    path = tmp_path / "own.jsonl"
    rows = [{"prompt": f"{k}?", "answer": "Yes"} for k in range(4)] + [
        {"prompt": "yes.?", "answer": "Yes"}
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    for rules in ([], ["case", "full_stop"]):
        task = {"name": "jsonl", "path": str(path), "test_size": 4, "normalise": rules}
        experiment = tiny(task=task, tokenizer="characters")
        data = prepare(experiment)
        written = data.tokenizer("yes.", add_special_tokens=False).input_ids
        monkeypatch.setattr(
            answers,
            "score_and_generate",
            lambda model, asked, *rest, ids=written: (
                score_and_generate(model, asked, *rest)[0],
                [Decoded(np.array(ids), True, 0.0) for _ in asked],
            ),
        )
        model = initial_model(experiment.arms["ctp"], data, 0)
        model.save_pretrained(tmp_path / "m")
        arm = experiment.arms["ctp"].objective
        context = EvaluationContext(
            source=tmp_path / "m",
            tokenizer=data.tokenizer,
            splits=data.splits,
            evaluation_splits=("test",),
            objective=arm,
        )
        items, _ = Accuracy(train_items=0).measure(context)
        assert {item["prediction"] for item in items} == {"yes."}
        found[bool(rules)] = [item["exact_match"] for item in items]
        fingerprint = data.fingerprint
        found[f"fingerprint {bool(rules)}"] = fingerprint
    assert found[False] == [0] * 4 and found[True] == [1] * 4
    # What is judged otherwise is not taken for measured.
    assert found["fingerprint False"] != found["fingerprint True"]


@pytest.mark.parametrize(
    "name, file, rules",
    [
        ("clutrr", "clutrr.csv", {"case", "full_stop"}),
        ("gsm8k", "gsm8k.jsonl", {"number", "full_stop"}),
        ("logicasker", "logicasker.csv", {"case", "full_stop"}),
        ("prontoqa", "prontoqa.json", {"case", "full_stop"}),
        ("ruletaker", "ruletaker.jsonl", {"case", "full_stop"}),
        ("scan", "scan.txt", set()),
        ("cogs", "cogs.tsv", set()),
    ],
)
def test_the_rules_of_published_tasks(name, file, rules):
    task = Published(format=name, path=f"tests/fixtures/published/{file}")
    examples = [example for split in task.all_splits().values() for example in split]
    assert examples and all(set(example.normalise) == rules for example in examples)


def test_an_unknown_rule_is_an_error():
    with pytest.raises(ValueError, match="'case', 'full_stop', 'number' or 'space'"):
        JsonLines(path="x", normalise=["upper"])
