"""Whole experiments in a bucket: machines that share nothing else, one lost in the middle."""

import json
import shutil
import time
from pathlib import Path

import pytest
import yaml

from ntpctp.runner import heartbeat, location
from ntpctp.runner.stores import Store
from tests.conftest import tiny_content
from tests.drivers import start_driver
from tests.runner.run_contents import contents

TRAINING = {"steps": 60, "batch_size": 8, "learning_rate": 1e-2, "log_every": 5}


def content(tmp_path):
    """Pretraining, then finetuning on a file of this machine, by its relative path."""
    data = tmp_path / "own.jsonl"
    rows = [{"prompt": f"{a}*{b}=", "answer": str(a * b)} for a in range(8) for b in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = tiny_content(arms=None, task=None, training=None, name="staged", seeds=2)
    own = {"name": "jsonl", "path": "own.jsonl"}
    return {
        **whole,
        "tokenizer": "characters",
        "evaluation": {"every": 20, "measures": ["accuracy"]},
        "comparison": {"loss_path": {"points": 3}},
        "stages": {
            "first": {"task": tiny_content()["task"], "training": TRAINING},
            "second": {"task": own, "training": TRAINING},
        },
        "arms": {
            "ntp": {"first": {"objective": "ntp"}, "second": {"objective": "ctp"}},
            "ctp": {"first": {"objective": "ctp"}, "second": {"objective": "ctp"}},
        },
    }


def command(tmp_path, machine, *arguments):
    """Start ntpctp on a machine, which is no more than its scratch directory."""
    scratch = {"NTPCTP_SCRATCH": str(tmp_path / machine)}
    return start_driver(*arguments, cwd=tmp_path, environment=scratch)


def done(driver):
    code, printed, errors = driver.outcome()
    assert code == 0, errors
    return printed


@pytest.mark.slow
def test_a_machine_is_lost_and_another_carries_on(s3, tmp_path):
    (tmp_path / "staged.yaml").write_text(yaml.safe_dump(content(tmp_path)))
    url = s3.rsplit("/", 1)[0] + "/staged"
    store = Store(url, tmp_path / "look")
    process = command(tmp_path, "one", "run", "staged.yaml", "--output", url)
    end = time.monotonic() + 300
    while not store.exists("first/ntp/seed-0/train/step-000020/manifest.json"):
        assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
        time.sleep(0.1)
    process.kill()
    process.communicate()
    shutil.rmtree(tmp_path / "one")
    printed = done(command(tmp_path, "two", "run", "staged.yaml", "--output", url))
    assert "report: " in printed

    done(command(tmp_path, "none", "run", "staged.yaml", "--output", "here"))
    store.pull()
    expected = contents(tmp_path / "here")
    assert len(expected) == 2 * 4 * (1 + 4 * 4)
    assert contents(store.copy) == expected
    for stage in ("first", "second"):
        here, there = (tmp_path / x / stage / "comparison.json" for x in ("here", "look"))
        assert json.loads(there.read_text())["scores"] == json.loads(here.read_text())["scores"]
        paths = [json.loads((x.parent / "loss-paths.json").read_text()) for x in (here, there)]
        losses = [[row["losses"] for row in path["rows"]] for path in paths]
        assert losses[0] == losses[1] and len(losses[0]) == 2

    # A third machine only looks.
    printed = done(command(tmp_path, "three", "status", url))
    assert printed.count("4 runs: 4 done") == 2
    assert not list((tmp_path / "three").rglob("manifest.json"))  # no checkpoint was brought
    printed = done(command(tmp_path, "three", "compare", f"{url}/second", "--format", "csv"))
    assert "exact_match" in printed
    printed = done(command(tmp_path, "three", "run", "staged.yaml", "--output", url))
    assert printed.count("done before") == 8
    weights = list((tmp_path / "three").glob("*.driver/second/**/*.safetensors"))
    last = {"step-000060"}  # of which the loss on the path between them is asked
    assert {path.parent.name for path in weights} <= last


def test_inputs_are_uploaded_and_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NTPCTP_SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "data.csv").write_text("a,b\n")
    for seed in (0, 1):
        model = tmp_path / f"models/seed-{seed}/last"
        model.mkdir(parents=True)
        (model / "config.json").write_text(f'{{"seed": {seed}}}')
    place = location.location_of(f"file://{tmp_path}/store")
    earlier = str(place.directory / "first/ntp/seed-{seed}/train/step-000060")
    given = {
        "seeds": [0, 1],
        "task": {"name": "csv", "path": "data.csv", "test_path": None, "separator": "data.csv"},
        "tokenizer": "characters",
        "arms": {
            "a": {"model": {"checkpoint": "models/seed-{seed}/last"}},
            "b": {"model": {"checkpoint": "some-org/model-on-the-hub"}},
            "c": {"model": {"checkpoint": earlier}},
        },
    }
    moved = location.upload_inputs(given, place)
    assert moved["task"]["separator"] == "data.csv" and moved["tokenizer"] == "characters"
    assert moved["arms"]["b"] == given["arms"]["b"] and moved["arms"]["c"] == given["arms"]["c"]
    there = place.store.copy / "first/ntp/seed-1/train/step-000060"
    there.mkdir(parents=True)
    (there / "config.json").write_text("{}")

    worker = Store(f"file://{tmp_path}/store", tmp_path / "worker")
    content = location.download_inputs(moved, place.store.copy, worker, seed=1)
    path = Path(content["task"]["path"])
    assert path.is_relative_to(worker.copy) and path.read_text() == "a,b\n"
    model = Path(content["arms"]["a"]["model"]["checkpoint"].replace("{seed}", "1"))
    assert model.is_relative_to(worker.copy)
    assert json.loads((model / "config.json").read_text()) == {"seed": 1}
    assert not model.parents[1].joinpath("seed-0").exists()
    assert content["arms"]["c"]["model"]["checkpoint"] == str(
        worker.copy / "first/ntp/seed-{seed}/train/step-000060"
    )


def test_a_failure_record_is_deleted_everywhere_on_restart(tmp_path, monkeypatch):
    monkeypatch.setenv("NTPCTP_SCRATCH", str(tmp_path / "scratch"))
    url = f"file://{tmp_path}/store"
    driver = location.location_of(url)
    run = driver.directory / "ntp/seed-0"
    heartbeat.write_failure(run, {"message": "out of luck"})
    driver.push_file(Path("ntp/seed-0/failure.json"))
    monkeypatch.setenv("NTPCTP_SCRATCH", str(tmp_path / "other"))
    other = location.location_of(url)
    other.pull_status()
    there = other.directory / "ntp/seed-0/failure.json"
    assert json.loads(there.read_text())["message"] == "out of luck"
    driver.delete_failure("ntp/seed-0")
    assert not (run / "failure.json").exists()
    other.pull_status()
    assert not there.exists()
