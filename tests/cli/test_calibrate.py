"""`ntpctp calibrate` as a user types it: from stored runs, and with further seeds trained."""

import json
import shutil

import pytest

# One arm is enough: it is compared with itself.
SMALL = {
    "arms": {"ctp": {"objective": "ctp"}},
    "seeds": 2,
    "evaluation": {"every": None, "measures": ["accuracy"]},
    "training": {"steps": 4, "batch_size": 8, "learning_rate": 1e-2},
}


@pytest.mark.slow
def test_from_too_few_seeds_over_training_to_the_report(ntpctp, tiny_file, tmp_path):
    out = tmp_path / "out"
    assert ntpctp("run", tiny_file(**SMALL), "--output", out, "--workers", 1).code == 0
    assert json.loads((out / "flops.json").read_text())["arms"]["ctp"]["steps"] == [0, 4]

    refused = ntpctp("calibrate", out)
    assert refused.code == 2 and "needs 4 seeds" in refused.err and "--train 8" in refused.err
    assert not (out / "calibration.json").exists()
    assert 'id="calibration"' not in (out / "report.html").read_text()

    done = ntpctp("calibrate", out, "--train", 2, "--workers", 1)
    assert done.code == 0, done.err
    record = json.loads((out / "calibration.json").read_text())
    assert record["trained_seeds"] == [2, 3] and record["schema_version"] == 1
    assert [rate["num_seeds"] for rate in record["false_positives"]] == [2]
    assert record["false_positives"][0]["num_stored"] == 4 and record["coverage"] == []
    assert record["verdict"] in " ".join(done.out.split())
    assert (out / "calibration/ctp/seed-3/train/step-000004/model.safetensors").is_file()
    page = (out / "report.html").read_text()
    assert 'id="calibration"' in page and "Calibration of the verdicts" in page
    # The experiment itself is what it was.
    assert json.loads((out / "comparison.json").read_text())["seeds"] == [0, 1]

    # Again: the runs are there, and the same numbers come of them.
    again = ntpctp("calibrate", out, "--train", 2, "--workers", 1)
    assert again.out.count("done before") == 2
    assert json.loads((out / "calibration.json").read_text()) == record
    # Without the further runs there is too little again, and the last result stays.
    shutil.rmtree(out / "calibration")
    assert ntpctp("calibrate", out).code == 2
    assert json.loads((out / "calibration.json").read_text()) == record


def test_what_is_no_experiment_is_refused(ntpctp, tmp_path):
    refused = ntpctp("calibrate", tmp_path)
    assert refused.code == 2 and "not an experiment's directory" in refused.err
    assert list(tmp_path.iterdir()) == []
    refused = ntpctp("calibrate", tmp_path, "--train", 2)
    assert refused.code == 2 and list(tmp_path.iterdir()) == []
