"""What `ntpctp evaluate` makes of results for other tools: lm-eval's layout, model cards."""

import json
import math
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard

from ntpctp.models import checkpoints
from tests.models.external_checkpoints import save_foreign

TASK = {"name": "parity", "bits": 8, "relevant": 3}
MEASURES = [{"name": "accuracy", "train_items": 5}, {"name": "flatness", "max_items": 4}]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_foreign(tmp_path_factory.mktemp("foreign") / "model", TASK)


@pytest.fixture
def foreign(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


@pytest.fixture
def suite(tmp_path):
    def write(name="small", **changes):
        path = tmp_path / f"{name}.yaml"
        content = {"name": name, "tasks": {"bits": TASK}, "measures": MEASURES, **changes}
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def scores_of(directory, measure):
    return json.loads((directory / f"{measure}.json").read_text())["scores"]


def test_lm_eval_layout_holds_what_was_measured(foreign, suite, ntpctp):
    outcome = ntpctp("evaluate", foreign, "--suite", suite(), "--format", "lm-eval")
    assert outcome.code == 0, outcome.err
    place = foreign / "evaluation/small"
    found = json.loads((place / "lm_eval_results.json").read_text())
    names = {"choice": "acc", "choice_normalised": "acc_norm"}
    expected = {}
    for score in scores_of(place / "bits", "accuracy") + scores_of(place / "bits", "flatness"):
        if score["value"] is None or score["stratum"] or score["strength"] is not None:
            continue
        task = expected.setdefault(f"ntpctp_bits_{score['split']}", {})
        name = names.get(score["score"], score["score"])
        task[f"{name},none"] = score["value"]
        error = score["standard_error"]
        task[f"{name}_stderr,none"] = "N/A" if error is None else error
    assert {"acc,none", "exact_match,none", "acc_stderr,none"} < set(expected["ntpctp_bits_test"])
    for task, values in expected.items():
        fixed = {"name": task, "alias": task, "sample_len": found["n-samples"][task]["effective"]}
        assert found["results"][task] == {**fixed, **values}
    assert found["n-samples"]["ntpctp_bits_train"] == {"original": 128, "effective": 5}
    assert found["n-samples"]["ntpctp_bits_test"] == {"original": 128, "effective": 128}
    assert found["higher_is_better"]["ntpctp_bits_test"]["answer_loss"] is False
    assert found["config"]["model_args"] == {"pretrained": str(foreign)}
    assert float(found["total_evaluation_time_seconds"]) > 0
    assert not any(isinstance(v, float) and math.isnan(v) for v in found.values())


def test_lm_eval_layout_is_that_of_lm_eval(foreign, suite, ntpctp, monkeypatch, tmp_path):
    lm_eval = pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker
    from lm_eval.result_schema import EvalResults
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table

    options = ["bits=8", "relevant=3", "--as", "bits", "--export", tmp_path / "tasks"]
    assert ntpctp("tasks", "parity", *options, "--tokenizer", foreign).code == 0
    real = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(foreign)},
        tasks=["ntpctp_bits"],
        task_manager=TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
        device="cpu",
        batch_size=8,
        bootstrap_iters=100,
    )
    assert ntpctp("evaluate", foreign, "--suite", suite(), "--format", "lm-eval").code == 0
    ours = json.loads((foreign / "evaluation/small/lm_eval_results.json").read_text())
    known = {*real, *GeneralConfigTracker.__dataclass_fields__, *EvalResults.__annotations__}
    assert set(ours) <= known
    assert {"results", "configs", "versions", "n-shot", "higher_is_better", "n-samples"} <= set(
        ours
    )
    task = "ntpctp_bits_test"
    for part in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples"):
        assert type(ours[part][task]) is type(real[part][task]), part
    assert set(ours["n-samples"][task]) == set(real["n-samples"][task])
    assert set(ours["config"]) <= set(real["config"])
    assert ours["n-samples"][task] == real["n-samples"][task]
    assert type(ours["date"]) is type(real["date"])
    metrics = {"acc,none", "acc_stderr,none"}
    assert metrics | {"name", "alias", "sample_len"} <= set(ours["results"][task])
    for metric in metrics:
        value = real["results"][task][metric]
        assert ours["results"][task][metric] == pytest.approx(value, abs=1e-12)
    lines = [[c.strip() for c in line.split("|")] for line in make_table(ours).splitlines()]
    row = next(line for line in lines if "acc" in line)
    value, error = (ours["results"][task][m] for m in ("acc,none", "acc_stderr,none"))
    # | task | version | filter | shots | metric | direction | value | ± | error |, few digits
    assert row[5:7] == ["acc", "↑"] and row[8] == "±"
    assert float(row[7]) == pytest.approx(value, abs=1e-3)
    assert float(row[9]) == pytest.approx(error, abs=1e-3)
    assert sum("answer_loss" in line for line in lines) == 2


def test_an_unknown_format_is_refused_before_anything_is_measured(foreign, suite, ntpctp):
    outcome = ntpctp("evaluate", foreign, "--suite", suite(), "--format", "lmeval")
    assert outcome.code == 2 and "unknown format 'lmeval'; did you mean 'lm-eval'?" in outcome.err
    assert not (foreign / "evaluation").exists()


def test_a_card_is_made_and_is_the_same_the_second_time(foreign, suite, ntpctp):
    arguments = ["evaluate", foreign, "--suite", suite(), "--model-card"]
    assert ntpctp(*arguments).code == 0
    text = (foreign / "README.md").read_text()
    assert ntpctp(*arguments).code == 0
    assert (foreign / "README.md").read_text() == text
    card = ModelCard.load(foreign / "README.md")
    scores = [
        s
        for measure in ("accuracy", "flatness")
        for s in scores_of(foreign / "evaluation/small/bits", measure)
    ]
    told = {(r.dataset_split, r.metric_type): r.metric_value for r in card.data.eval_results or []}
    assert told == {
        (s["split"], s["score"]): s["value"]
        for s in scores
        if s["value"] is not None and not s["stratum"]
    }
    assert card.data.model_name == "model"
    rows = [line for line in card.text.splitlines() if line.startswith("| bits | ")]
    assert len(rows) == len(scores)
    reason = "it is not known under which objective the checkpoint was trained"
    assert any(f"| top_eigenvalue_own_loss | null: {reason} |" in row for row in rows)


def test_what_others_wrote_stays(foreign, suite, ntpctp):
    theirs = {
        "task": {"type": "other"},
        "dataset": {"name": "D", "type": "d"},
        "metrics": [{"type": "m", "value": 0.5}],
    }
    data = {"license": "mit", "model-index": [{"name": "theirs", "results": [theirs]}]}
    head = f"---\n{yaml.safe_dump(data)}---\n"
    body = "# Title\r\n\r\nText with | bars.\r\n"
    (foreign / "README.md").write_text(head + body, newline="")
    first = ["evaluate", foreign, "--suite", suite(), "--model-card"]
    other = suite("other", measures=[{"name": "accuracy", "train_items": 0}])
    assert ntpctp(*first).code == 0
    assert ntpctp("evaluate", foreign, "--suite", other, "--model-card").code == 0
    with (foreign / "README.md").open("a") as file:
        file.write("\nThe end.\n")
    before = (foreign / "README.md").read_bytes()
    assert ntpctp(*first).code == 0
    after = (foreign / "README.md").read_bytes()
    assert after.partition(b"# Title")[2] == before.partition(b"# Title")[2]
    assert body.encode() in after and after.endswith(b"\nThe end.\n")
    assert after.count(b"ntpctp results: small -->") == 2
    assert after.count(b"ntpctp results: other -->") == 2
    card = ModelCard.load(foreign / "README.md")
    assert card.data.license == "mit" and card.data.model_name == "theirs"
    results = card.data.eval_results or []
    assert [r.metric_value for r in results if r.dataset_type == "d"] == [0.5]
    assert {r.dataset_config for r in results} == {None, "small", "other"}


def test_a_card_without_metadata_keeps_its_text(foreign, suite, ntpctp):
    (foreign / "README.md").write_text("# No metadata\n\n---\n\nA line above.")
    assert ntpctp("evaluate", foreign, "--suite", suite(), "--model-card").code == 0
    card = ModelCard.load(foreign / "README.md")
    assert card.text.startswith("# No metadata\n\n---\n\nA line above.\n\n<!-- ntpctp results")


def test_metadata_that_cannot_be_read_is_not_replaced(foreign, suite, ntpctp):
    (foreign / "README.md").write_text("---\n- a list\n---\ntext")
    outcome = ntpctp("evaluate", foreign, "--suite", suite(), "--model-card")
    assert outcome.code == 2 and "invalid metadata" in outcome.err
    assert (foreign / "README.md").read_text() == "---\n- a list\n---\ntext"


def test_results_elsewhere_have_their_card_there(foreign, suite, ntpctp, tmp_path):
    arguments = ["--suite", suite(), "--output", tmp_path / "out", "--model-card"]
    assert ntpctp("evaluate", foreign, *arguments).code == 0
    assert "## Results (small)" in (tmp_path / "out/model/README.md").read_text()
    assert not (foreign / "README.md").exists()


def test_a_checkpoint_of_a_run_still_verifies(finished, ntpctp, tmp_path):
    directory, _ = finished
    out = shutil.copytree(directory / "out", tmp_path / "out")
    checkpoint = out / "ntp/seed-0/train/step-000008"
    digest = checkpoints.verify(checkpoint)
    outcome = ntpctp("evaluate", checkpoint, "--model-card", "--format", "lm-eval")
    assert outcome.code == 0, outcome.err
    assert "## Results (experiment)" in (checkpoint / "README.md").read_text()
    assert (checkpoint / "evaluation/lm_eval_results.json").is_file()
    assert checkpoints.verify(checkpoint) == digest
