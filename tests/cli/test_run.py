"""`ntpctp run` as a user types it: from a file to a verdict, again, and after a stop."""

import json
import shutil
import signal
import time

import pandas as pd
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from ntpctp.analysis.scores import read_scores
from tests.drivers import run_module, start_driver
from tests.test_house import ROOT


@pytest.mark.slow
def test_everything_is_there(finished):
    directory, printed = finished
    out = directory / "out"
    assert "2 arms (ntp, ctp) x 2 seeds = 4 runs" in printed
    assert "ntp against ctp" in printed and f"report: {out / 'report.html'}" in printed
    for name in ("experiment.yaml", "provenance.json", "scores.parquet", "comparison.json"):
        assert (out / name).stat().st_size > 0
    frame = read_scores(out)
    # 2 arms, 2 seeds, steps 0, 4 and 8; accuracy 3 + 3 + ..., robustness 2 + 1, flatness 2.
    assert set(zip(frame["arm"], frame["seed"], frame["step"], strict=True)) == {
        (arm, seed, step) for arm in ("ntp", "ctp") for seed in (0, 1) for step in (0, 4, 8)
    }
    assert set(frame["measure"]) == {"accuracy", "robustness", "flatness", "learning"}
    # Models of eight steps are no better than guessing: no half strength, and not a larger one.
    expected = frame["censored"] | frame["score"].str.startswith("half_strength")
    assert frame[~expected]["value"].notna().all()
    pairs = [
        pair
        for score in json.loads((out / "comparison.json").read_text())["scores"]
        if not score["score"].startswith("half_strength")
        for pair in score["pairs"]
    ]
    assert pairs and all(pair["seeds"] == [0, 1] for pair in pairs)


def test_rows_and_scores_agree(finished):
    directory, _ = finished
    frame = read_scores(directory / "out")
    chosen = (frame["score"] == "exact_match") & (frame["split"] == "test")
    row = frame[chosen & frame["stratum"].isna()].iloc[-1]
    path = directory / f"out/{row['arm']}/seed-{row['seed']}/train/step-{row['step']:06d}"
    items = pd.read_json(path / "evaluation/accuracy.jsonl", lines=True)
    items = items[items["split"] == "test"]
    assert len(items) == row["count"] == 20
    assert items["exact_match"].mean() == row["value"]
    # Of a stratum: the items whose row says so.
    part = frame[chosen & (frame["stratum"] == "carries = 1")].iloc[-1]
    of_part = items[items["strata"].map(lambda strata: "carries = 1" in strata)]
    assert len(of_part) == part["count"] > 0


def test_checkpoints_are_ordinary(finished):
    directory, _ = finished
    path = directory / "out/ctp/seed-1/train/step-000008"
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path)
    ids = tokenizer("1+2=", return_tensors="pt")
    assert model.generate(**ids, max_new_tokens=2, do_sample=False).shape[1] >= 5


def test_arms_of_one_seed_start_from_the_same_file(finished):
    directory, _ = finished
    files = [
        directory / f"out/{arm}/seed-0/train/step-000000/model.safetensors"
        for arm in ("ntp", "ctp")
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    other = directory / "out/ntp/seed-1/train/step-000000/model.safetensors"
    assert other.read_bytes() != files[0].read_bytes()


def contents(out):
    """All results as bytes; what records times and machines is left out."""
    kept = ("model.safetensors", "optimizer.safetensors", "accuracy.jsonl", "robustness.jsonl")
    return {p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.name in kept}


def test_second_run_computes_nothing(finished, tmp_path, ntpctp):
    directory, _ = finished
    out = tmp_path / "out"
    shutil.copytree(directory / "out", out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("step-*/**/*") if p.is_file()}
    assert len(before) > 50
    outcome = ntpctp("run", directory / "tiny.yaml", "--output", out)
    assert outcome.code == 0, outcome.err
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("step-*/**/*") if p.is_file()}


@pytest.mark.slow
def test_interrupted_run_is_carried_on_to_the_same_results(finished, tmp_path, ntpctp):
    directory, _ = finished
    out = tmp_path / "out"
    driver = start_driver("run", directory / "tiny.yaml", "--output", out)
    while not list(out.rglob("step-000000")):  # until training has started
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGINT)
    _, printed = driver.communicate()
    assert driver.returncode == 130
    assert "run the same command again to resume" in printed
    outcome = ntpctp("run", directory / "tiny.yaml", "--output", out)
    assert outcome.code == 0, outcome.err
    assert contents(out) == contents(directory / "out")
    assert not list(out.rglob(".tmp-*"))


def test_changed_settings_are_refused_and_named(finished, tmp_path, ntpctp):
    directory, _ = finished
    out = tmp_path / "out"
    shutil.copytree(directory / "out", out)
    changes = ["training.learning_rate=0.5", "task.seed=1"]
    outcome = ntpctp("run", directory / "tiny.yaml", *changes, "--output", out)
    assert outcome.code == 2
    assert "holds a run with other settings" in outcome.err
    assert "training.learning_rate: 0.01 in run.json, 0.5 now" in outcome.err
    assert "task.seed: 0 in run.json, 1 now" in outcome.err
    assert contents(out) == contents(directory / "out")


def test_more_seeds_reuse_what_is_there(finished, tmp_path, ntpctp):
    directory, _ = finished
    out = tmp_path / "out"
    shutil.copytree(directory / "out", out)
    before = contents(out)
    outcome = ntpctp("run", directory / "tiny.yaml", "seeds=3", "--output", out)
    assert outcome.code == 0, outcome.err
    after = contents(out)
    assert {path: after[path] for path in before} == before
    assert set(read_scores(out)["seed"]) == {0, 1, 2}


def test_damaged_score_rows_are_computed_again(finished, tmp_path, ntpctp):
    directory, _ = finished
    out = tmp_path / "out"
    shutil.copytree(directory / "out", out)
    rows = out / "ntp/seed-0/train/step-000004/evaluation/accuracy.jsonl"
    rows.write_text(rows.read_text()[:-50])
    assert ntpctp("evaluate", out, "--measures", "accuracy").code == 0
    assert contents(out) == contents(directory / "out")


def test_evaluate_one_checkpoint_and_unknown_places(finished, ntpctp, tmp_path):
    directory, _ = finished
    checkpoint = directory / "out/ntp/seed-0/train/step-000004"
    outcome = ntpctp("evaluate", checkpoint, "--measures", "flatness")
    assert outcome.code == 0
    assert outcome.out.count("top_eigenvalue_answer_loss") == 1
    assert "ntp, seed 0, step-000004" in outcome.out
    outcome = ntpctp("evaluate", tmp_path)
    assert outcome.code == 2 and "neither an experiment's directory nor inside one" in outcome.err
    outcome = ntpctp("evaluate", directory / "out/ntp/seed-7")
    assert outcome.code == 2 and "no checkpoint of the experiment" in outcome.err
    outcome = ntpctp("evaluate", checkpoint, "--measures", "flatnes")
    assert outcome.code == 2 and "did you mean 'flatness'" in outcome.err


def test_compare_and_report_again(finished, ntpctp, tmp_path):
    directory, _ = finished
    out = tmp_path / "out"
    shutil.copytree(directory / "out", out)
    first = (out / "comparison.json").read_bytes()
    (out / "comparison.json").unlink()
    (out / "report.html").unlink()
    outcome = ntpctp("compare", out)
    assert outcome.code == 0 and "ntp against ctp" in outcome.out
    assert (out / "comparison.json").read_bytes() == first
    (out / "report.html").unlink()
    assert ntpctp("report", out).code == 0
    assert (out / "report.html").is_file()
    outcome = ntpctp("compare", tmp_path / "nowhere")
    assert outcome.code == 2 and "it has no experiment.yaml" in outcome.err


def test_one_failed_run_does_not_stop_the_others(finished, tmp_path, ntpctp):
    directory, _ = finished
    out = tmp_path / "out"
    (out / "ntp").mkdir(parents=True)
    (out / "ntp/seed-0").write_text("a file where a directory should be")
    outcome = ntpctp("run", directory / "tiny.yaml", "--output", out)
    assert outcome.code == 1
    assert "failed: ntp, seed 0:" in outcome.err and "1 of 4 runs failed" in outcome.err
    assert set(zip(*(read_scores(out)[c] for c in ("arm", "seed")), strict=True)) == {
        ("ntp", 1),
        ("ctp", 0),
        ("ctp", 1),
    }


@pytest.mark.slow
def test_recipe_and_evaluation_scripts(finished, tmp_path):
    """`accelerate launch` of the two scripts gives what `ntpctp run` gives."""
    directory, _ = finished
    out = tmp_path / "out"
    launch = ["accelerate.commands.launch", "--cpu", "--num_processes", 1]
    one_run = ["--arm", "ctp", "--seed", 1, "--output", out]
    done = run_module(*launch, "recipes/train.py", directory / "tiny.yaml", *one_run, cwd=ROOT)
    assert done.code == 0, done.err
    there = directory / "out/ctp/seed-1/train/step-000008/model.safetensors"
    here = out / "ctp/seed-1/train/step-000008/model.safetensors"
    assert here.read_bytes() == there.read_bytes()
    script = "evaluation/evaluate_checkpoints.py"
    done = run_module(*launch, script, directory / "out/ntp/seed-0", cwd=ROOT)
    assert done.code == 0, done.err
    assert done.out.count("test exact_match") == 3
