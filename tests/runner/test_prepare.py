"""What is done with examples that do not fit, and the counts of the audit."""

import json

import numpy as np
import pytest

from ntpctp._core.errors import InputError
from ntpctp.data.tokenize import trim_prompt
from ntpctp.models.reference_losses import reference_losses
from ntpctp.runner.audit import audit, count_tables, first_tokens
from ntpctp.runner.prepare import prepare


@pytest.fixture
def own(tiny, tmp_path):
    """An experiment on own lines, one of them with a long prompt."""

    def make(lines, **changes):
        path = tmp_path / "own.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        test = tmp_path / "test.jsonl"
        test.write_text('{"prompt": "9=", "answer": "9"}\n')
        task = {"name": "jsonl", "path": str(path), "test_path": str(test)}
        return tiny(**{"task": task, "tokenizer": "characters", **changes})

    return make


LINES = [{"prompt": f"{i}=", "answer": str(i)} for i in range(5)]
LONG = {"prompt": "123456789=", "answer": "77"}
SMALL = {"family": "gpt2", "layers": 1, "width": 8, "heads": 2, "context": 8}


def test_too_long_is_an_error_by_default(own):
    with pytest.raises(InputError, match=r"own\.jsonl, line 6: has 13 tokens .* context is 8"):
        prepare(own([*LINES, LONG], model=SMALL))


def test_too_long_is_dropped_and_counted(own):
    data = prepare(own([*LINES, LONG], model=SMALL, data={"too_long": "drop"}))
    assert len(data.splits["train"].encoded) == 5
    assert data.exclusions == {"train": {"dropped_too_long": 1}, "test": {}}


def test_prompt_is_trimmed_from_the_left_and_the_answer_never(own):
    data = prepare(own([*LINES, LONG], model=SMALL, data={"too_long": "trim_prompt"}))
    row = data.splits["train"].encoded[-1]
    assert data.tokenizer.decode(row.input_ids) == "6789=77<eos>"
    assert row.answer_start == 5 and row.has_role("answer").sum() == 3
    assert row.text[slice(*row.offsets[0])] == "6"
    assert data.exclusions["train"] == {"prompts_trimmed": 1}


def test_answer_that_does_not_fit_is_an_error_even_when_trimming(own):
    endless = {"prompt": "1=", "answer": "7" * 9}
    with pytest.raises(InputError, match="reasoning, answer and end of sequence alone have 10"):
        prepare(own([*LINES, endless], model=SMALL, data={"too_long": "trim_prompt"}))


def test_trimming_keeps_a_token_of_the_prompt(own):
    row = prepare(own(LINES)).splits["train"].encoded[0]  # 2 prompt, 1 answer, end
    assert len(trim_prompt(row, 3, "x")) == 3
    with pytest.raises(InputError, match="x: reasoning, answer"):
        trim_prompt(row, 2, "x")


DIGITS = {
    "sevens": {"objective": {"name": "critical", "pattern": "7"}},
    "ntp": {"objective": "ntp"},
}


def test_row_that_an_arm_does_not_supervise_is_an_error(own):
    message = r"line 1: arm 'sevens' \(critical\) supervises none .*5 such examples"
    with pytest.raises(InputError, match=message):
        prepare(own([*LINES, LONG], arms=DIGITS))


def test_row_that_an_arm_does_not_supervise_is_dropped_for_all(own):
    data = prepare(own([*LINES, LONG], arms=DIGITS, data={"unsupervised": "drop"}))
    assert len(data.splits["train"].encoded) == 1
    assert data.exclusions["train"] == {"dropped_unsupervised": 5}


def test_nothing_left_is_an_error(own):
    with pytest.raises(InputError, match="no example is left in the split 'train'"):
        prepare(own(LINES, arms=DIGITS, data={"unsupervised": "drop"}))


def test_audit_counts_by_hand(own):
    arms = {
        "ntp": {"objective": "ntp"},
        "ctp": {"objective": "ctp"},
        "half": {"objective": {"name": "weighted", "prompt": 0.5}},
        "rho": {"objective": {"name": "selective", "reference": "x", "fraction": 0.5}},
    }
    experiment = own([*LINES, LINES[0], LONG], arms=arms)
    record = audit(experiment, prepare(experiment))
    # Six lines of four tokens, one of thirteen.
    assert record["splits"]["train"] == {
        "examples": 7,
        "tokens": 37,
        "shortest": 4,
        "longest": 13,
        "duplicates": 1,
        "merged_boundaries": 0,
        "shared_examples": 0,
    }
    found = {name: counts["train"] for name, counts in record["arms"].items()}
    assert found["ntp"]["supervised_tokens"] == 30 and found["ntp"]["share"] == 1
    assert found["ctp"]["supervised_tokens"] == 6 * 2 + 3
    assert (found["ctp"]["min"], found["ctp"]["median"], found["ctp"]["max"]) == (2, 2, 3)
    assert found["ctp"]["share"] == 15 / 30 == found["ctp"]["weight_share"]
    assert found["half"]["share"] == 1 and found["half"]["weight_share"] == (15 + 7.5) / 30
    assert found["rho"]["supervised_tokens"] == 6 * 2 + 6  # half of 3 and of 12, rounded up
    for counts in found.values():
        assert counts["rows_without"] == 0 and counts["end_of_sequence_supervised"] == 1
    of_splits, of_arms = count_tables(record)
    rows = {row[0]: row[1] for row in of_splits.rows}
    assert (rows["tokens"], rows["merged boundaries"]) == ("37", "0")
    (half,) = [row[2:] for row in of_arms.rows if row[:2] == ("half", "train")]
    assert half == ("30", "3 to 12 (3)", "100.0%", "75.0%", "0", "100%")
    tokens = next(first_tokens(experiment, prepare(experiment), 1))
    assert tokens == [
        ("0", [0, 0, 0, 0]),
        ("=", [1, 0, 0.5, 1]),
        ("0", [1, 1, 1, 1]),
        ("<eos>", [1, 1, 1, 1]),
    ]


def test_audit_command(ntpctp, tiny_file):
    outcome = ntpctp("audit", tiny_file(), "--examples", 1)
    assert outcome.code == 0
    assert "ctp" in outcome.out and "[" in outcome.out and "supervised" not in outcome.err
    outcome = ntpctp("audit", tiny_file(), "--json")
    assert json.loads(outcome.out)["arms"]["ctp"]["train"]["share"] == 0.5


def test_reference_losses_are_computed_once_and_right(own, tmp_path):
    import torch

    from ntpctp.objectives.collator import model_inputs
    from ntpctp.objectives.dataset import SupervisedExamples
    from ntpctp.runner.prepare import initial_model

    experiment = own(LINES)
    data = prepare(experiment)
    model = initial_model(experiment.arms["ntp"], data, 0).eval()
    model.save_pretrained(tmp_path / "reference")
    data.tokenizer.save_pretrained(tmp_path / "reference")
    rows = [*data.splits["train"].encoded, *data.splits["test"].encoded]
    losses_of = reference_losses(tmp_path / "kept", data.tokenizer, batch_tokens=9)
    found = losses_of(str(tmp_path / "reference"), rows)
    for row, losses in zip(rows, found, strict=True):
        batch = SupervisedExamples([row], experiment.arms["ntp"].objective).batch([0], 0)
        with torch.no_grad():
            logits = model(**model_inputs(batch)).logits[0]
        expected = -logits.log_softmax(-1)[np.arange(len(row) - 1), row.input_ids[1:]]
        np.testing.assert_allclose(losses[1:], expected, atol=1e-5)
    (kept,) = (tmp_path / "kept").iterdir()
    before = kept.stat().st_mtime_ns
    losses_of(str(tmp_path / "reference"), rows)
    assert kept.stat().st_mtime_ns == before


def test_reference_with_another_vocabulary_is_refused(own, tmp_path):
    from ntpctp.data.tokenize import closed_tokenizer

    closed_tokenizer(["xyz"], "characters").save_pretrained(tmp_path / "reference")
    data = prepare(own(LINES))
    losses_of = reference_losses(tmp_path / "kept", data.tokenizer, batch_tokens=9)
    with pytest.raises(InputError, match="its tokenizer has another vocabulary"):
        losses_of(str(tmp_path / "reference"), data.splits["train"].encoded)


def test_a_choice_that_is_longer_than_every_example(own):
    rows = [
        {"prompt": f"{n}=", "answer": str(n % 5), "choices": [str(n % 5), "123456"]}
        for n in range(9)
    ]
    data = prepare(own(rows))
    assert data.longest == 2 + 6 + 1
    model = {"family": "gpt2", "layers": 1, "width": 16, "heads": 2, "context": 8}
    with pytest.raises(
        InputError, match="has 9 tokens with the choice '123456' as the answer, but the"
    ):
        prepare(own(rows, model=model))


def test_audit_of_every_objective_equals_a_loop_over_rows(own):
    from ntpctp.objectives.dataset import SupervisedExamples

    phases = [{"objective": "ntp", "until": 9}, {"objective": "ctp"}]
    arms = {
        "dial": {"objective": {"name": "weighted", "prompt": 0.25}},
        "partial": {"objective": {"name": "partial", "keep": 0.5}},
        "random": {"objective": "random"},
        "schedule": {"objective": {"name": "schedule", "phases": phases}},
    }
    experiment = own([*LINES, LINES[0], LONG], arms=arms)
    data = prepare(experiment)
    rows = data.splits["train"].encoded
    record = audit(experiment, data)
    for name, arm in experiment.arms.items():
        supervised = SupervisedExamples(rows, arm.objective)
        seen = [supervised.at(index, 0).weights[1:] for index in range(len(rows))]
        found = record["arms"][name]["train"]
        assert found["supervised_tokens"] == sum((w != 0).sum() for w in seen)
        assert found["weight_share"] == pytest.approx(sum(w.sum() for w in seen) / 30)
        assert found["end_of_sequence_supervised"] == np.mean([w[-1] != 0 for w in seen])


def test_a_module_that_no_model_has_is_missed_before_training(tiny):
    measures = ["accuracy", {"name": "robustness", "modules": ["transformer.h.7"]}]
    message = r"unknown module of the model 'transformer.h.7'.* a block: transformer.h.0"
    with pytest.raises(InputError, match=message):
        prepare(tiny(evaluation={"measures": measures}))
