"""Directories of runs in which something was damaged or changed by hand."""

import shutil

import pytest

from ntpctp.analysis.pipeline import compare_experiment
from ntpctp.config import experiment_of
from ntpctp.report.html import write_report
from ntpctp.runner.experiment import local_engine, run_experiment
from tests.bad_input.refusal import Case, check
from tests.conftest import tiny_content

CONTENT = tiny_content(
    training={"steps": 2, "batch_size": 8, "log_every": 1},
    seeds=1,
    evaluation={"measures": ["accuracy"]},
)
LAST = "ntp/seed-0/train/step-000002"


def damaged(command, name, content, messages, **more):
    """Return a case of a command on a run in which a file is changed; None: is gone.

    ``content`` may be a function of what is there.
    """

    def make(directory):
        path = directory / "out" / name
        path.parent.mkdir(exist_ok=True)
        new = content(path.read_bytes()) if callable(content) else content
        if new is None:
            path.unlink()
        else:
            path.write_bytes(new if isinstance(new, bytes) else new.encode())

    return Case(command.split(), messages, make=make, **more)


def flipped(content):
    return content[:-3] + bytes([content[-3] ^ 0xFF]) + content[-2:]


def in_place_of(old, new):
    def change(content):
        assert old.encode() in content
        return content.replace(old.encode(), new.encode())

    return change


EVALUATE = f"evaluate DIR/out/{LAST} --measures accuracy --output DIR/results"

CASES: dict[str, Case] = {
    # the experiment
    "experiment that is gone": damaged(
        "compare DIR/out", "experiment.yaml", None, ["DIR/out: not an experiment's directory"]
    ),
    "experiment that is cut off": damaged(
        "compare DIR/out",
        "experiment.yaml",
        lambda content: content[:200],
        ["DIR/out/experiment.yaml"],
    ),
    "experiment with another arm": damaged(
        "evaluate DIR/out/ntp/seed-0 --measures accuracy",
        "experiment.yaml",
        in_place_of("  ntp:\n", "  npt:\n"),
        ["no checkpoint of the experiment DIR/out in this directory"],
    ),
    "experiment with another objective": damaged(
        "run DIR/out/experiment.yaml --output DIR/out",
        "experiment.yaml",
        in_place_of("batch_size: 8", "batch_size: 9"),
        ["batch_size"],
    ),
    # scores and their rows
    "scores that are no JSON": damaged(
        "compare DIR/out",
        f"{LAST}/evaluation/accuracy.json",
        "{",
        ["its scores (accuracy.json) are damaged"],
    ),
    "scores that are a list": damaged(
        "compare DIR/out",
        f"{LAST}/evaluation/accuracy.json",
        "[]",
        ["its scores (accuracy.json) are damaged"],
    ),
    "scores without a field": damaged(
        "compare DIR/out",
        f"{LAST}/evaluation/accuracy.json",
        '{"key": "x"}',
        ["its scores (accuracy.json) are damaged"],
    ),
    "scores that are binary": damaged(
        "compare DIR/out",
        f"{LAST}/evaluation/accuracy.json",
        b"\xff\xfe",
        ["its scores (accuracy.json) are damaged"],
    ),
    # records
    "record of a run that is no JSON": damaged(
        "run DIR/experiment.yaml --output DIR/out", "ntp/seed-0/run.json", "{", ["run.json"]
    ),
    "record of a run without its checksum": damaged(
        "run DIR/experiment.yaml --output DIR/out",
        "ntp/seed-0/run.json",
        '{"run": {"data_fingerprint": "x"}}',
        ["run.json: damaged", "no checksum", "Restore the file from a copy, or delete"],
    ),
    "audit that is a list": damaged(
        "report DIR/out",
        "audit.json",
        "[]",
        ["DIR/out/audit.json: expected a JSON object, found list; `ntpctp run DIR/out/experiment"],
    ),
    "audit of other fields": damaged(
        "report DIR/out", "audit.json", '{"splits": 7}', ["audit.json: damaged", "writes it again"]
    ),
    "audit with another number": damaged(
        "report DIR/out",
        "audit.json",
        in_place_of('"examples": 60', '"examples": 61'),
        ["DIR/out/audit.json: damaged", "checksum mismatch", "writes it again"],
    ),
    "operations that are null": damaged(
        "compare DIR/out",
        "flops.json",
        "null",
        ["flops.json: expected a JSON object, found NoneType"],
    ),
    "operations without arms": damaged(
        "compare DIR/out", "flops.json", "{}", ["flops.json: damaged", "writes it anew"]
    ),
    "operations with another number": damaged(
        "compare DIR/out", "flops.json", in_place_of(".0", ".5"), ["flops.json: damaged"]
    ),
    "provenance that is a number": damaged(
        "report DIR/out", "provenance.json", "7", ["provenance.json: expected a JSON object"]
    ),
    "provenance of other data": damaged(
        "report DIR/out",
        "provenance.json",
        '{"data_fingerprint": "x"}',
        ["provenance.json: damaged", "`ntpctp run DIR/out/experiment.yaml --output DIR/out`"],
    ),
    "calibration that is a list": damaged(
        "report DIR/out",
        "calibration.json",
        "[]",
        ["calibration.json: expected a JSON object", "`ntpctp calibrate DIR/out` writes it again"],
    ),
    "log without a loss": damaged(
        "report DIR/out",
        "ntp/seed-0/train/log.jsonl",
        '{"step": 1}\n',
        ["log.jsonl, line 1: expected a number as loss, found None", "retrains damaged runs"],
    ),
    "log of words": damaged(
        "report DIR/out",
        "ntp/seed-0/train/log.jsonl",
        '{"step": "one", "loss": "small"}\n',
        ["log.jsonl, line 1: expected a number as step, found 'one'"],
    ),
    "worker that is no JSON": damaged(
        "status DIR/out", "ntp/seed-0/worker.json", "{", ["worker.json: invalid JSON"]
    ),
    "worker that is a list": damaged(
        "status DIR/out", "ntp/seed-0/worker.json", "[]", ["worker.json: expected a JSON object"]
    ),
    "worker of another time": damaged(
        "status DIR/out",
        "ntp/seed-0/worker.json",
        '{"alive": "now"}',
        ["worker.json: the field 'alive' (time of the last heartbeat) is not"],
    ),
    "failure that is a list": Case(
        ["status", "DIR/out"],
        ["failure.json: expected a JSON object, found list"],
        make=lambda directory: (directory / "out/ntp/seed-0/failure.json").write_text("[]"),
    ),
    "failure without words": Case(
        ["status", "DIR/out"],
        ["failure.json: the field 'message' is not a text"],
        make=lambda directory: (directory / "out/ntp/seed-0/failure.json").write_text("{}"),
    ),
    # checkpoints
    "manifest that is gone": damaged(
        EVALUATE, f"{LAST}/manifest.json", None, ["step-000002", "it has no manifest.json"]
    ),
    "manifest that is no JSON": damaged(
        EVALUATE, f"{LAST}/manifest.json", "{", ["manifest.json", "expected JSON"]
    ),
    "manifest that is a list": damaged(EVALUATE, f"{LAST}/manifest.json", "[]", ["manifest.json"]),
    "manifest without files": damaged(EVALUATE, f"{LAST}/manifest.json", "{}", ["manifest.json"]),
    "manifest of names alone": damaged(
        EVALUATE, f"{LAST}/manifest.json", '{"files": {"config.json": null}}', ["manifest.json"]
    ),
    "manifest that leads out": damaged(
        EVALUATE,
        f"{LAST}/manifest.json",
        '{"files": {"../../../../../experiment.yaml": {"bytes": 1, "sha256": "x"}}}',
        ["manifest.json"],
    ),
    "manifest that lists nothing": damaged(
        EVALUATE, f"{LAST}/manifest.json", '{"files": {}}', ["manifest.json"]
    ),
    "weights with a flipped bit": damaged(
        EVALUATE, f"{LAST}/model.safetensors", flipped, ["model.safetensors: damaged"]
    ),
    "weights that are cut off": damaged(
        EVALUATE, f"{LAST}/model.safetensors", lambda c: c[:-1], ["model.safetensors: damaged"]
    ),
    "weights that are gone": damaged(
        EVALUATE, f"{LAST}/model.safetensors", None, ["model.safetensors: missing"]
    ),
    "config that was changed": damaged(
        EVALUATE, f"{LAST}/config.json", in_place_of("gpt2", "gpt3"), ["config.json: damaged"]
    ),
    "list of what was deleted that is a number": Case(
        EVALUATE.split(),
        ["thin.json"],
        make=lambda directory: (directory / "out" / LAST / "thin.json").write_text("7"),
    ),
    "step that is no step": Case(
        ["evaluate", "DIR/out/ntp/seed-0/train/step-9"],
        ["no checkpoint of the experiment DIR/out in this directory"],
        make=lambda directory: (directory / "out/ntp/seed-0/train/step-9").mkdir(),
    ),
    # calibration
    "further runs of another experiment": Case(
        ["calibrate", "DIR/out"],
        ["calibration"],
        make=lambda directory: (
            shutil.copytree(directory / "out", directory / "copy"),
            shutil.move(directory / "copy", directory / "out/calibration"),
            (directory / "out/calibration/provenance.json").write_text('{"data_fingerprint": "x"}'),
        ),
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "out"
    experiment = experiment_of(CONTENT, "tiny")
    engine = local_engine([experiment], 1)
    failed = run_experiment(experiment, output, engine=engine, on_event=lambda event: None)
    assert not failed
    frame, comparisons = compare_experiment(experiment, output)
    write_report(experiment, frame, comparisons, output, output / "report.html")
    return output


@pytest.mark.parametrize("name", CASES)
def test_run(name, trained, ntpctp, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "out")
    shutil.copyfile(trained / "experiment.yaml", tmp_path / "experiment.yaml")
    check(CASES[name], ntpctp, tmp_path, monkeypatch)
