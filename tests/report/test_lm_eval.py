"""The real lm-evaluation-harness on exported tasks: the same numbers as the measure accuracy."""

import json
import logging

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from ntpctp.data.tasks import TASKS
from tests.models.external_checkpoints import save_foreign

pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
LOGIC = {"name": "prontoqa", "hops": 2, "side_rules": 1, "train_size": 20, "test_size": 30}
PARITY = {"name": "parity", "bits": 8, "relevant": 3}  # one token a character, unlike prontoqa
SUMS = {"name": "addition", "digits": 1, "train_size": 60, "test_size": 24}
# Words, prompts of several lengths that end in a line break, answers with hyphens.
KIN = {"name": "kinship", "train_size": 40, "test_size": 24}


@pytest.fixture(scope="module", params=[LOGIC, PARITY], ids=["prontoqa", "parity"])
def chooser(request, tmp_path_factory):
    """A task with choices and random weights: log-likelihoods of all sizes, half of them right."""
    task = request.param
    return save_foreign(tmp_path_factory.mktemp("choices") / "model", task), task


@pytest.fixture(scope="module", params=[SUMS, KIN], ids=["addition", "kinship"])
def writer(request, tmp_path_factory):
    """A task without choices and a model that knows half of the test items by heart."""
    task = request.param
    path = save_foreign(tmp_path_factory.mktemp("answers") / "model", task, scale=0.0, n_embd=32)
    model = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    examples = TASKS[task["name"]].model_validate(task).split("test")[::2]
    texts = ["".join(s.text for s in e.segments) + tokenizer.eos_token for e in examples]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    labels = batch.input_ids.where(batch.attention_mask.bool(), -100)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    for _ in range(150):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path)
    return path, task


def options_of(task):
    return [task["name"], *(f"{key}={value}" for key, value in task.items() if key != "name")]


@pytest.fixture
def harness(tmp_path, monkeypatch):
    """Run lm-eval on a checkpoint and exported tasks."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(logging.getLogger("lm_eval"), "disabled", True)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))

    def run(model, directory, names, **metadata):
        return lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(model), "dtype": "float32"},
            tasks=names,
            task_manager=TaskManager(
                include_path=str(directory), include_defaults=False, metadata=metadata
            ),
            device="cpu",
            batch_size=8,
            bootstrap_iters=0,
        )

    return run


@pytest.fixture
def ours(tmp_path, ntpctp):
    """Scores and item rows of the measure accuracy on the test split."""

    def measure(model, task):
        suite = tmp_path / "suite.yaml"
        measures = [{"name": "accuracy", "train_items": 0, "max_items": 30}]
        content = {"name": "all", "tasks": {task["name"]: task}, "measures": measures}
        suite.write_text(yaml.safe_dump(content))
        outcome = ntpctp("evaluate", model, "--suite", suite, "--output", tmp_path / "results")
        assert outcome.code == 0, outcome.err
        place = tmp_path / f"results/model/all/{task['name']}"
        rows = [json.loads(line) for line in (place / "accuracy.jsonl").read_text().splitlines()]
        scores = json.loads((place / "accuracy.json").read_text())["scores"]
        return (
            {s["score"]: s["value"] for s in scores if s["split"] == "test" and not s["stratum"]},
            [row for row in rows if row["split"] == "test"],
        )

    return measure


def log_likelihoods(found, name):
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    return np.array([[float(r[0][0]) for r in s["resps"]] for s in samples]), samples


def test_choices_and_their_log_likelihoods(chooser, ntpctp, harness, ours, tmp_path):
    model, task = chooser
    place, name = tmp_path / "tasks", f"ntpctp_{task['name']}_test"
    arguments = ["--split", "test", "--export", place, "--tokenizer", model, "--max-items", 30]
    outcome = ntpctp("tasks", *options_of(task), *arguments)
    assert outcome.code == 0, outcome.err
    assert "lm-eval tokenizes all items like ntpctp" in outcome.out
    found = harness(model, place, [name])
    scores, rows = ours(model, task)
    assert 0 < scores["choice"] < 1
    result = found["results"][name]
    assert result["acc,none"] == pytest.approx(np.mean([r["choice"] for r in rows]), abs=1e-12)
    theirs, samples = log_likelihoods(found, name)
    mine = np.array([row["choice_log_likelihoods"] for row in rows])
    assert theirs.shape == mine.shape == (30, 2)
    np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-5)
    # By characters of the choice alone, without the text of the end of sequence.
    by_length = mine / [[len(c) for c in s["doc"]["choices"]] for s in samples]
    right = by_length.argmax(1) == [s["doc"]["right"] for s in samples]
    assert result["acc_norm,none"] == pytest.approx(right.mean(), abs=1e-12)


def test_without_a_tokenizer_the_end_is_not_counted_unless_it_is_told(
    chooser, ntpctp, harness, ours, tmp_path
):
    path, task = chooser
    place, name = tmp_path / "tasks", f"ntpctp_{task['name']}_test"
    arguments = ["--split", "test", "--export", place, "--max-items", 30]
    assert ntpctp("tasks", *options_of(task), *arguments).code == 0
    _, rows = ours(path, task)
    mine = np.array([row["choice_log_likelihoods"] for row in rows])
    told, _ = log_likelihoods(harness(path, place, [name], eos_token="<eos>"), name)
    np.testing.assert_allclose(told, mine, rtol=0, atol=1e-5)
    # The last token's own log-likelihood is what is missing, read by the model itself.
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path)
    without, _ = log_likelihoods(harness(path, place, [name]), name)
    for item, example in enumerate(TASKS[task["name"]].model_validate(task).split("test")[:5]):
        for number, choice in enumerate(example.choices):
            ids = tokenizer(example.text("prompt") + choice, return_tensors="pt").input_ids
            with torch.no_grad():
                logits = model(ids).logits[0, -1]
            end = float(logits.log_softmax(-1)[tokenizer.eos_token_id])
            assert without[item, number] + end == pytest.approx(mine[item, number], abs=1e-5)


def test_answers_that_are_written(writer, ntpctp, harness, ours, tmp_path):
    model, task = writer
    place, name = tmp_path / "tasks", f"ntpctp_{task['name']}_test"
    arguments = ["--split", "test", "--export", place, "--tokenizer", model]
    outcome = ntpctp("tasks", *options_of(task), *arguments)
    assert outcome.code == 0, outcome.err
    found = harness(model, place, [f"ntpctp_{task['name']}"])  # by its tag
    scores, rows = ours(model, task)
    assert 0.3 < scores["exact_match"] < 1
    result = found["results"][name]
    assert result["exact_match,none"] == pytest.approx(scores["exact_match"], abs=1e-12)
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    assert [s["exact_match"] for s in samples] == [row["exact_match"] for row in rows]
    assert any("-" in row["reference"] for row in rows) == (task is KIN)
