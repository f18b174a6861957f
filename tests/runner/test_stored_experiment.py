"""An experiment that version 0.1 left unfinished: it is resumed, or refused by name."""

import tarfile

import pandas as pd
import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from ntpctp._core.errors import InputError
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp.analysis.comparison import COMPARISON, read_comparison
from ntpctp.analysis.scores import SCORES, read_scores
from ntpctp.models import checkpoints
from tests.test_house import ROOT

NTP, CTP = "ntp/seed-0", "ctp/seed-0"


@pytest.fixture
def stored(tmp_path):
    """NTP is complete; CTP has two of three checkpoints, the second not measured."""
    with tarfile.open(ROOT / "tests/fixtures/experiment-0.1.tar.gz") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    return tmp_path / "out"


def resume(ntpctp, stored):
    return ntpctp("run", stored / "experiment.yaml", "--output", stored)


def files_of(run):
    """Content and time of change of the files that hold results."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in run.rglob("*")
        if path.is_file() and path.name != "worker.json"
    }


def test_it_is_resumed_where_it_stopped(stored, ntpctp):
    complete, start = files_of(stored / NTP), files_of(stored / CTP / "train/step-000004")
    assert len(complete) > 30 and not (stored / CTP / "train/step-000008").exists()
    outcome = resume(ntpctp, stored)
    assert outcome.code == 0, outcome.err
    assert "ntp, seed 0: done before" in outcome.out
    assert files_of(stored / NTP) == complete
    assert start.items() <= files_of(stored / CTP / "train/step-000004").items()
    # Other machines round in another way: not bit for bit.
    last = stored / CTP / "train/step-000008"
    checkpoints.verify(last)
    found, expected = (
        load_file(path) for path in (last / "model.safetensors", stored / "ctp-step-8.safetensors")
    )
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert_close(found[name], tensor, rtol=1e-5, atol=1e-7)
    scores = read_scores(stored)
    assert set(zip(scores["arm"], scores["step"], strict=True)) == {
        (arm, step) for arm in ("ntp", "ctp") for step in (0, 4, 8)
    }
    (pair,) = {(p["a"], p["b"]) for s in read_comparison(stored)["scores"] for p in s["pairs"]}
    assert set(pair) == {"ntp", "ctp"}


def test_weights_that_were_changed_are_trained_again(stored, ntpctp):
    path = stored / CTP / "train/step-000004/model.safetensors"
    content = path.read_bytes()
    damaged = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes(damaged)
    outcome = resume(ntpctp, stored)
    assert outcome.code == 0, outcome.err
    assert "step-000004/model.safetensors: damaged" in outcome.out
    assert path.read_bytes() != damaged and checkpoints.verify(path.parent)


def test_a_record_that_was_changed_is_refused_by_name(stored, ntpctp):
    path = stored / NTP / "run.json"
    path.write_text(path.read_text().replace('"steps": 8', '"steps": 9'))
    before = files_of(stored / CTP)
    outcome = resume(ntpctp, stored)
    assert outcome.code == 2 and str(path) in outcome.err
    assert "not written by this version" in outcome.err
    assert files_of(stored / CTP) == before


def test_a_run_of_another_version_is_refused_by_name(stored, ntpctp):
    path = stored / NTP / "run.json"
    record = read_sealed(path, "")
    record["run"]["training"]["momentum_of_version_9"] = 0.5
    write_sealed(path, record)
    outcome = resume(ntpctp, stored)
    assert outcome.code == 2 and str(stored / NTP) in outcome.err
    assert "training.momentum_of_version_9: 0.5" in outcome.err


def test_results_of_another_version_are_refused_by_name(stored):
    write_sealed(stored / COMPARISON, {"schema_version": 99})
    with pytest.raises(InputError, match=r"comparison\.json: expected schema version .*found 99"):
        read_comparison(stored)
    pd.DataFrame({"schema_version": [99]}).to_parquet(stored / SCORES)
    with pytest.raises(InputError, match=r"scores\.parquet: expected rows of schema .*found 99"):
        read_scores(stored)
