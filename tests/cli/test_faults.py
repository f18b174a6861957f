"""What goes wrong while runs are at work: the message, the exit code, and what is left."""

import errno
import signal
import time

import psutil
import pytest

from ntpctp._core.layout import RunId, stage_directory
from ntpctp.analysis.scores import read_scores
from ntpctp.cli.console import clear_errors
from ntpctp.models import checkpoints
from tests.drivers import start_driver
from tests.runner.run_contents import contents

LONG = {
    "training": {"steps": 600, "batch_size": 8, "learning_rate": 1e-2, "log_every": 50},
    "evaluation": {"every": 100, "measures": ["accuracy"]},
    "seeds": 1,
}


def start(path, output):
    return start_driver("run", path, "--output", output, "--workers", 2)


def until(condition):
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.005)


def workers_of(driver):
    """The processes that train: children of the driver's fork server."""
    (server,) = psutil.Process(driver.pid).children()
    return server.children()


def test_output_that_cannot_be_written(ntpctp, tiny_file, tmp_path):
    (tmp_path / "file").write_text("no directory")
    outcome = ntpctp("run", tiny_file(), "--output", tmp_path / "file" / "out")
    assert outcome.code == 1
    assert str(tmp_path / "file") in outcome.err
    assert "choose an --output that can be written" in outcome.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "tiny.yaml"]


def test_a_disk_that_is_full(capsys):
    with pytest.raises(SystemExit) as stop, clear_errors():
        raise OSError(errno.ENOSPC, "No space left on device", "scores.parquet")
    assert stop.value.code == 1
    assert (
        "free some disk space; finished work is kept, run the same command again"
        in capsys.readouterr().err
    )


def test_memory_that_is_full(capsys):
    with pytest.raises(SystemExit) as stop, clear_errors():
        raise MemoryError
    assert stop.value.code == 1
    assert (
        "out of memory\nfinished work is kept, run the same command again"
        in capsys.readouterr().err
    )


def test_memory_that_a_library_did_not_get(capsys):
    with pytest.raises(SystemExit) as stop, clear_errors():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")
    assert stop.value.code == 1
    assert "error: out of memory: DefaultCPUAllocator" in capsys.readouterr().err


def test_faults_of_this_program_keep_their_traceback():
    with pytest.raises(RuntimeError, match="something else"), clear_errors():
        raise RuntimeError("something else")


@pytest.mark.slow
def test_an_arm_that_diverges_leaves_the_others_alone(ntpctp, tiny_file, tmp_path):
    wild = {"learning_rate": 1e30, "max_grad_norm": None}
    arms = {"tame": {"objective": "ntp"}, "wild": {"objective": "ntp", "training": wild}}
    outcome = ntpctp("run", tiny_file(arms=arms), "--output", tmp_path / "out")
    assert outcome.code == 1
    assert "failed: wild, seed 0: the loss is nan at step" in outcome.err
    assert "2 of 4 runs failed; the others are complete" in outcome.err
    scores = read_scores(tmp_path / "out")
    assert set(scores[scores["step"] == 8]["arm"]) == {"tame"}
    for path in (tmp_path / "out").rglob("step-*"):
        checkpoints.verify(path)


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_the_others_alone(ntpctp, tiny_file, tmp_path):
    path, out = tiny_file(**LONG), tmp_path / "out"
    driver = start(path, out)
    stages = [stage_directory(out, RunId(arm, 0)) for arm in ("ntp", "ctp")]
    until(lambda: all(checkpoints.list_checkpoints(stage) for stage in stages))
    workers_of(driver)[0].kill()
    printed, err = driver.communicate(timeout=400)
    assert driver.returncode == 1, printed
    assert "the process of the job ended early: killed by SIGKILL" in err
    assert "1 of 2 runs failed; the others are complete" in err
    done = [(stage / "step-000600").is_dir() for stage in stages]
    assert sorted(done) == [False, True]
    outcome = ntpctp("run", path, "--output", out)
    assert outcome.code == 0, outcome.err
    scores = read_scores(out)
    assert set(scores[scores["step"] == 600]["arm"]) == {"ntp", "ctp"}


@pytest.mark.slow
def test_sigterm_saves_within_ten_seconds_and_the_same_command_carries_on(
    ntpctp, tiny_file, tmp_path
):
    training = {**LONG["training"], "log_every": 10}
    # No checkpoint on the way: while one is measured, there would be nothing to save.
    evaluation = {"measures": ["accuracy"]}
    path = tiny_file(**LONG | {"training": training, "evaluation": evaluation})
    out = tmp_path / "out"
    driver = start(path, out)
    logs = [stage_directory(out, RunId(arm, 0)) / "log.jsonl" for arm in ("ntp", "ctp")]
    until(lambda: all(log.is_file() and log.read_text().count("\n") >= 2 for log in logs))
    workers, told = workers_of(driver), time.monotonic()
    driver.terminate()
    _, err = driver.communicate()
    assert time.monotonic() - told < 10
    assert driver.returncode == 143
    assert "run the same command again to resume" in err and "Traceback" not in err
    assert not any(worker.is_running() for worker in workers)
    # Between two checkpoints: what was done since the last is not lost.
    saved = [sorted(log.parent.glob("step-*/interval.json")) for log in logs]
    assert all(len(of_run) == 1 for of_run in saved)
    outcome = ntpctp("run", path, "--output", out)
    assert outcome.code == 0, outcome.err
    assert ntpctp("run", path, "--output", tmp_path / "undisturbed").code == 0
    assert contents(out) == contents(tmp_path / "undisturbed")


def flipped(path, number):
    """Change one digit."""
    content = path.read_text()
    place = [i for i, sign in enumerate(content) if sign.isdigit()][number]
    path.write_text(content[:place] + str((int(content[place]) + 1) % 10) + content[place + 1 :])


@pytest.mark.slow
def test_one_digit_of_what_is_finished_is_not_accepted(ntpctp, tiny_file, tmp_path):
    path, out = tiny_file(seeds=1, evaluation={"measures": ["accuracy"]}), tmp_path / "out"
    assert ntpctp("run", path, "--output", out).code == 0
    before = contents(out)
    last = out / "ntp/seed-0/train/step-000008/evaluation"
    for scores, number in ((last / "accuracy.json", -70), (last / "accuracy.json", 3)):
        flipped(scores, number)
        outcome = ntpctp("compare", out)
        assert outcome.code == 2
        assert "1 checkpoint was measured by measure accuracy, but its scores" in outcome.err
        assert ntpctp("run", path, "--output", out).code == 0
        assert contents(out) == before
    scores.write_text("{")
    flipped(last / "accuracy.jsonl", 5)
    assert ntpctp("run", path, "--output", out).code == 0
    assert contents(out) == before
    # It cannot be made again: who knows what it was of?
    flipped(out / "ctp/seed-0/run.json", -1)
    for command in (("run", path, "--output", out), ("compare", out)):
        outcome = ntpctp(*command)
        assert outcome.code == 2
        assert (
            f"or delete {out / 'ctp/seed-0'} and run the same command to train it again"
            in outcome.err
        )


@pytest.mark.slow
def test_what_a_killed_driver_left_is_deleted(ntpctp, tiny_file, tmp_path):
    path, out = tiny_file(seeds=1, evaluation={"measures": ["accuracy"]}), tmp_path / "out"
    assert ntpctp("run", path, "--output", out).code == 0
    left = [out / ".tmp-1-report.html", out / "ntp/seed-0/.tmp-1-worker.json"]
    for file in left:
        file.write_text("half")
    assert ntpctp("run", path, "--output", out).code == 0
    assert not any(file.exists() for file in left)


def test_sigterm_while_the_report_is_written(ntpctp, tiny_file, tmp_path, monkeypatch):
    path, out = tiny_file(seeds=1, evaluation={"measures": ["accuracy"]}), tmp_path / "out"

    def asked(*arguments):
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("goes on")

    monkeypatch.setattr("ntpctp.cli.actions.results.write_report", asked)
    outcome = ntpctp("run", path, "--output", out)
    assert outcome.code == 143 and "run the same command again to resume" in outcome.err
    monkeypatch.undo()
    assert ntpctp("run", path, "--output", out).code == 0


@pytest.mark.slow
def test_a_second_command_on_the_same_directory_is_refused(ntpctp, tiny_file, tmp_path):
    path, out = tiny_file(**LONG), tmp_path / "out"
    driver = start(path, out)
    until(lambda: (out / "experiment.yaml").exists())
    outcome = ntpctp("run", path, "--output", out)
    assert outcome.code == 2 and "another process is working on this experiment" in outcome.err
    _, err = driver.communicate(timeout=400)
    assert driver.returncode == 0, err


@pytest.mark.parametrize("field", ["training.learning_rate=0.5", "task.digits=2"])
@pytest.mark.slow
def test_resuming_with_other_settings_names_the_field(ntpctp, tiny_file, tmp_path, field):
    path, out = tiny_file(seeds=1, evaluation={"measures": ["accuracy"]}), tmp_path / "out"
    assert ntpctp("run", path, "--output", out).code == 0
    outcome = ntpctp("run", path, field, "--output", out)
    assert outcome.code == 2 and "holds a run with other settings" in outcome.err
    assert field.split("=")[0] in outcome.err
