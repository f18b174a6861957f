"""`ntpctp evaluate` on checkpoints that this program did not train, by suites."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from ntpctp.data.tasks import TASKS
from ntpctp.models.build import load_model
from tests.drivers import run_module
from tests.models.external_checkpoints import save_foreign

ROOT = Path(__file__).parents[2]
TASK = {"name": "addition", "digits": 1, "train_size": 60, "test_size": 20}
SUITE = {
    "name": "small",
    "tasks": {"sums": TASK},
    "measures": [{"name": "accuracy", "train_items": 10}],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_foreign(tmp_path_factory.mktemp("foreign") / "model", TASK)


@pytest.fixture
def foreign(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


@pytest.fixture
def suite(tmp_path):
    def write(**changes):
        path = tmp_path / "suite.yaml"
        path.write_text(yaml.safe_dump({**SUITE, **changes}, sort_keys=False))
        return path

    return write


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_foreign_checkpoint_is_measured_beside_itself(foreign, suite, ntpctp):
    before = {path.name: path.read_bytes() for path in foreign.iterdir()}
    outcome = ntpctp("evaluate", foreign, "--suite", suite())
    assert outcome.code == 0, outcome.err
    assert "model, sums: test exact_match = " in outcome.out
    rows = rows_of(foreign / "evaluation/small/sums/accuracy.jsonl")
    assert [row["split"] for row in rows] == ["test"] * 20 + ["train"] * 10
    assert before == {path.name: path.read_bytes() for path in foreign.iterdir() if path.is_file()}
    # The loss of each item, by the model's own forward pass on the text itself.
    tokenizer, network = AutoTokenizer.from_pretrained(foreign), load_model(foreign)
    for row, example in zip(
        rows, TASKS["addition"].model_validate(TASK).split("test"), strict=False
    ):
        prompt, answer = (tokenizer(segment.text).input_ids for segment in example.segments)
        ids = torch.tensor([[*prompt, *answer, tokenizer.eos_token_id]])
        logits = network(ids).logits[0].detach().double().log_softmax(-1)
        places = torch.arange(len(prompt) - 1, ids.shape[1] - 1)
        expected = -logits[places, ids[0, places + 1]].sum()
        assert row["answer_loss_sum"] == pytest.approx(float(expected), rel=1e-5)


def test_a_second_call_loads_no_model(foreign, suite, ntpctp, monkeypatch):
    first = ntpctp("evaluate", foreign, "--suite", suite())
    monkeypatch.setattr("ntpctp.measures.context.load_model", None)
    second = ntpctp("evaluate", foreign, "--suite", suite())
    assert second.code == 0, second.err
    announced = "model, sums: measuring accuracy ...\n"
    assert announced in first.out and second.out == first.out.replace(announced, "")


@pytest.mark.parametrize("what", ["weights", "config", "tokenizer", "measure", "data"])
def test_whatever_moves_a_number_is_measured_again(foreign, suite, ntpctp, monkeypatch, what):
    assert ntpctp("evaluate", foreign, "--suite", suite()).code == 0
    changes = {}
    if what == "weights":
        tensors = load_file(foreign / "model.safetensors")
        tensors["transformer.ln_f.bias"] += 0.5
        save_file(tensors, foreign / "model.safetensors", {"format": "pt"})
    elif what == "config":
        content = json.loads((foreign / "config.json").read_text())
        (foreign / "config.json").write_text(json.dumps({**content, "layer_norm_epsilon": 0.1}))
    elif what == "tokenizer":
        content = json.loads((foreign / "tokenizer_config.json").read_text())
        (foreign / "tokenizer_config.json").write_text(json.dumps({**content, "note": "new"}))
    elif what == "measure":
        changes = {"measures": [{"name": "accuracy", "train_items": 11}]}
    else:
        changes = {"tasks": {"sums": {**TASK, "seed": 1}}}
    loaded = []
    load = load_model
    monkeypatch.setattr(
        "ntpctp.measures.context.load_model",
        lambda *args, **kwargs: loaded.append(args) or load(*args, **kwargs),
    )
    assert ntpctp("evaluate", foreign, "--suite", suite(**changes)).code == 0
    assert loaded


def test_what_needs_an_objective_is_null_with_a_reason(foreign, suite, ntpctp):
    measures = [{"name": "flatness", "max_items": 8, "half": False}, "preconditioned"]
    outcome = ntpctp("evaluate", foreign, "--suite", suite(measures=measures))
    assert outcome.code == 0, outcome.err
    reason = "null: it is not known under which objective the checkpoint was trained"
    assert f"train top_eigenvalue_own_loss = {reason}" in outcome.out
    assert f"train stability_ratio = {reason}" in outcome.out
    assert "train top_eigenvalue_answer_loss = null" not in outcome.out


def test_results_go_where_they_are_wanted(foreign, suite, ntpctp, tmp_path):
    foreign.chmod(0o555)
    try:
        outcome = ntpctp("evaluate", foreign, "--suite", suite(), "--output", tmp_path / "out")
    finally:
        foreign.chmod(0o755)
    assert outcome.code == 0, outcome.err
    assert rows_of(tmp_path / "out/model/small/sums/accuracy.jsonl")
    assert not (foreign / "evaluation").exists()


def test_two_of_one_name_do_not_share_results(foreign, suite, ntpctp, tmp_path):
    other = shutil.copytree(foreign, tmp_path / "other" / "model")
    outcome = ntpctp("evaluate", foreign, other, "--suite", suite(), "--output", tmp_path / "out")
    assert outcome.code == 2 and "both would write results to" in outcome.err
    assert not (tmp_path / "out").exists()


def test_one_named_twice_is_measured_once(foreign, suite, ntpctp):
    outcome = ntpctp("evaluate", foreign, foreign, "--suite", suite())
    assert outcome.code == 0 and outcome.out.count("test exact_match") == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: (path / "config.json").unlink(), "nor a Hugging Face checkpoint"),
        (lambda path: (path / "model.safetensors").unlink(), r"no weights found as *.safetensors"),
        (lambda path: (path / "tokenizer.json").unlink(), "cannot load a tokenizer from"),
    ],
)
def test_what_is_no_checkpoint_is_refused(foreign, suite, ntpctp, spoil, message):
    spoil(foreign)
    outcome = ntpctp("evaluate", foreign, "--suite", suite())
    assert outcome.code == 2 and message in outcome.err, outcome.err
    assert "Traceback" not in outcome.err


def test_a_tokenizer_that_does_not_know_the_task_is_named(foreign, suite, ntpctp):
    tasks = {"logic": {"name": "simple_logic", "train_size": 4, "test_size": 4}}
    outcome = ntpctp("evaluate", foreign, "--suite", suite(tasks=tasks))
    assert outcome.code == 2
    assert "model, task logic: train example 0: the tokenizer has no token for" in outcome.err


def test_too_little_context_is_said_before_the_model_is_loaded(tmp_path, suite, ntpctp):
    small = save_foreign(tmp_path / "small", TASK, n_positions=5)
    outcome = ntpctp("evaluate", small, "--suite", suite())
    assert outcome.code == 2 and "the model's context is 5" in outcome.err
    outcome = ntpctp("evaluate", small, "--suite", suite(too_long="drop"))
    assert outcome.code == 2 and "no example is left" in outcome.err


def test_without_tasks_there_is_nothing_to_measure_on(foreign, suite, ntpctp):
    outcome = ntpctp("evaluate", foreign)
    assert outcome.code == 2 and "Choose tasks and measures: --suite" in outcome.err
    outcome = ntpctp("evaluate", foreign, "--suite", suite(tasks={}))
    assert outcome.code == 2 and "the suite small has no tasks" in outcome.err


def test_of_the_hub_only_with_a_place_for_results(suite, ntpctp, tmp_path, monkeypatch):
    outcome = ntpctp("evaluate", "nobody/nothing", "--suite", suite(), "--output", tmp_path / "o")
    assert (
        outcome.code == 2
        and "not a local directory, and the download from the Hub failed" in outcome.err
    )
    snapshot = save_foreign(tmp_path / "snapshot", TASK)
    monkeypatch.setattr(
        "ntpctp.models.external.snapshot_download", lambda *args, **kwargs: str(snapshot)
    )
    outcome = ntpctp("evaluate", "some/model", "--suite", suite())
    assert outcome.code == 2 and "--output DIRECTORY" in outcome.err
    outcome = ntpctp("evaluate", "some/model", "--suite", suite(), "--output", tmp_path / "o")
    assert outcome.code == 0, outcome.err
    assert rows_of(tmp_path / "o/some__model/small/sums/accuracy.jsonl")


@pytest.mark.slow
def test_processes_share_checkpoints(model, suite, tmp_path):
    names = ["a", "b", "c"]
    for name in names:
        shutil.copytree(model, tmp_path / name)
    done = run_module(
        "torch.distributed.run", "--nproc_per_node=2", "--standalone",
        "evaluation/evaluate_checkpoints.py", *(tmp_path / name for name in names),
        "--suite", suite(), cwd=ROOT, environment={"ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.code == 0, done.err
    assert [done.out.count(f"{name}, sums: test exact_match") for name in names] == [1, 1, 1]
    files = [tmp_path / name / "evaluation/small/sums/accuracy.jsonl" for name in names]
    assert files[0].read_bytes() == files[1].read_bytes() == files[2].read_bytes()


@pytest.fixture
def finished(finished, tmp_path):
    """A run of the tiny experiment."""
    directory, _ = finished
    out = tmp_path / "out"
    shutil.copytree(directory / "out", out, ignore=shutil.ignore_patterns("seed-1", "ctp"))
    return out


@pytest.mark.slow
def test_a_run_is_measured_on_its_own_task_unless_the_suite_says_otherwise(finished, suite, ntpctp):
    checkpoint = finished / "ntp/seed-0/train/step-000008"
    before = (checkpoint / "evaluation/accuracy.json").read_bytes()
    tasks = {"more": {**TASK, "seed": 5, "test_size": 7}}
    measures = [{"name": "accuracy", "train_items": 0}]
    outcome = ntpctp("evaluate", checkpoint, "--suite", suite(tasks=tasks, measures=measures))
    assert outcome.code == 0, outcome.err
    assert "ntp, seed 0, step-000008, addition: test exact_match" in outcome.out
    assert len(rows_of(checkpoint / "evaluation/small/addition/accuracy.jsonl")) == 20
    path = suite(tasks=tasks, measures=measures, own_task=False)
    outcome = ntpctp("evaluate", checkpoint, "--suite", path)
    assert outcome.code == 0, outcome.err
    assert "ntp, seed 0, step-000008, more: test exact_match" in outcome.out
    assert len(rows_of(checkpoint / "evaluation/small/more/accuracy.jsonl")) == 7
    # What the experiment compares is untouched.
    assert (checkpoint / "evaluation/accuracy.json").read_bytes() == before


def test_a_checkpoint_outside_its_experiment_gives_the_same_numbers(
    finished, suite, ntpctp, tmp_path
):
    moved = tmp_path / "moved"
    shutil.copytree(finished / "ntp/seed-0/train/step-000008", moved)
    shutil.rmtree(moved / "evaluation")
    measures = [{"name": "accuracy", "train_items": 500}]
    assert ntpctp("evaluate", moved, "--suite", suite(measures=measures)).code == 0
    there = finished / "ntp/seed-0/train/step-000008/evaluation/accuracy.jsonl"
    found = rows_of(moved / "evaluation/small/sums/accuracy.jsonl")
    assert len(found) == len(rows_of(there)) > 60
    for one, other in zip(found, rows_of(there), strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            # Two processes: the last digits of a product may depend on where its memory lies.
            same = pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
            assert other[key] == same, key
