"""``ntpctp status``: what is said of runs that are done, at work, failed, stopped or waiting."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict

import pytest
import yaml

from ntpctp._core.files import write_json
from ntpctp._core.layout import EXPERIMENT, RunId, run_directory
from ntpctp._core.locks import locked
from ntpctp.config import experiment_of
from ntpctp.runner import heartbeat
from ntpctp.runner.engines import Failure, Local
from ntpctp.runner.experiment import run_experiment
from ntpctp.runner.status import run_statuses, seconds_left
from ntpctp.runner.summary import read_summary
from ntpctp.runner.worker import experiment_digest
from tests.conftest import tiny_content

CONTENT = {"evaluation": {"every": 4, "measures": ["accuracy"]}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny experiment of two arms and two seeds, run once; tests copy it."""
    directory = tmp_path_factory.mktemp("states") / "tiny"
    experiment = experiment_of(tiny_content(**CONTENT), "tiny")
    failures = run_experiment(experiment, directory, engine=Local(1), on_event=lambda e: None)
    assert not failures
    return experiment, directory


@pytest.fixture
def copied(finished, tmp_path):
    experiment, directory = finished
    shutil.copytree(directory, tmp_path / "tiny")
    return experiment, tmp_path / "tiny"


def by_name(experiment, output):
    asked = read_summary(output)
    assert asked.runs() == experiment.runs()
    return {str(state.run): state for state in run_statuses(asked, output)}


def test_finished_runs_are_done(finished):
    experiment, output = finished
    states = by_name(experiment, output)
    assert list(states) == ["ntp, seed 0", "ctp, seed 0", "ntp, seed 1", "ctp, seed 1"]
    for run, state in states.items():
        arm, _, seed = run.partition(", seed ")
        lines = (output / arm / f"seed-{seed}/train/log.jsonl").read_text().splitlines()
        assert (state.state, state.step, state.steps) == ("done", 8, 8)
        assert state.loss == json.loads(lines[-1])["loss"]
        assert (state.measured, state.checkpoints) == (3, 3)
        assert state.host == os.uname().nodename and time.time() - state.last_sign < 600
        assert state.failure is None
    assert seconds_left(list(states.values())) == 0


def test_what_is_missing_makes_a_run_stopped_or_waiting(copied):
    experiment, output = copied
    (output / "ntp/seed-0/train/step-000008/evaluation/accuracy.json").unlink()
    log = output / "ctp/seed-0/train/log.jsonl"
    log.write_text(log.read_text().splitlines()[0] + '\n{"step": 4, "lo')  # killed while it wrote
    shutil.rmtree(output / "ctp/seed-0/train/step-000008")
    shutil.rmtree(output / "ctp/seed-1")
    states = by_name(experiment, output)
    assert [state.state for state in states.values()] == ["stopped", "stopped", "done", "waiting"]
    assert (states["ntp, seed 0"].step, states["ntp, seed 0"].measured) == (8, 2)
    assert (states["ctp, seed 0"].step, states["ctp, seed 0"].measured) == (2, 2)
    waiting = states["ctp, seed 1"]
    assert (waiting.step, waiting.loss, waiting.last_sign, waiting.host) == (0, None, None, None)
    # 6 of 8 steps of one ctp run and 8 of the other, at the speed of the one that has a log.
    speed = states["ctp, seed 0"].seconds_a_step
    assert seconds_left(list(states.values())) == pytest.approx(14 * speed)


def test_a_held_lock_is_a_running_run(copied):
    experiment, output = copied
    (output / "ntp/seed-0/train/step-000008/evaluation/accuracy.json").unlink()
    with locked(run_directory(output, RunId("ntp", 0)), "a test"):
        assert by_name(experiment, output)["ntp, seed 0"].state == "running"
    assert by_name(experiment, output)["ntp, seed 0"].state == "stopped"


def failed_run(experiment, output, of_machine):
    """The directory of a run that was not finished, with what is recorded of a failure."""
    directory = run_directory(output, RunId("ctp", 1))
    shutil.rmtree(directory / "train/step-000008")
    failure = Failure("RuntimeError: out of luck", "Traceback: line 1", of_machine)
    heartbeat.write_failure(
        directory, {**asdict(failure), "experiment": experiment_digest(experiment)}
    )
    return directory


def test_a_failure_keeps_its_traceback_until_the_run_is_begun_again_on_request(copied, ntpctp):
    experiment, output = copied
    directory = failed_run(experiment, output, of_machine=False)
    state = by_name(experiment, output)["ctp, seed 1"]
    assert state.state == "failed"
    assert state.failure["message"] == "RuntimeError: out of luck"
    done = ntpctp("status", str(output))
    assert "4 runs: 1 failed, 3 done" in done.out
    assert "ctp, seed 1: RuntimeError: out of luck" in done.out
    again = {"engine": Local(1), "on_event": lambda e: None}
    failures = run_experiment(experiment, output, **again)
    assert list(failures) == ["ctp, seed 1"]
    assert failures["ctp, seed 1"].traceback == "Traceback: line 1"
    assert not (directory / "train/step-000008").exists()  # it was not begun
    assert not run_experiment(experiment, output, retry_failed=True, **again)
    state = by_name(experiment, output)["ctp, seed 1"]
    assert state.state == "done" and state.failure is None


@pytest.mark.parametrize("why", ["machine", "changed"])
def test_what_would_not_fail_again_is_begun_again_unasked(copied, why):
    experiment, output = copied
    failed_run(experiment, output, of_machine=why == "machine")
    if why == "changed":
        experiment = experiment.model_copy(update={"question": "Another?"})
    failures = run_experiment(experiment, output, engine=Local(1), on_event=lambda e: None)
    assert not failures
    assert by_name(experiment, output)["ctp, seed 1"].state == "done"


def test_a_run_on_another_machine_is_running_while_it_gives_signs_of_life(copied):
    experiment, output = copied
    directory = run_directory(output, RunId("ntp", 0))
    (directory / "train/step-000008/evaluation/accuracy.json").unlink()
    worker = {"host": "elsewhere", "process": 1, "started": 0}
    write_json(directory / "worker.json", {**worker, "alive": time.time()})
    state = by_name(experiment, output)["ntp, seed 0"]
    assert (state.state, state.host) == ("running", "elsewhere")
    write_json(directory / "worker.json", {**worker, "alive": time.time() - 150})
    assert by_name(experiment, output)["ntp, seed 0"].state == "stopped"


def test_signs_of_life_are_given_while_work_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.02)
    beats = []
    with heartbeat.keep_alive(tmp_path, lambda: beats.append(time.time())):
        begun = heartbeat.read_worker(tmp_path)["alive"]
        end = time.monotonic() + 300
        while len(beats) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        assert heartbeat.read_worker(tmp_path)["alive"] > begun
    assert len(beats) >= 3
    before = len(beats)
    time.sleep(0.1)
    assert len(beats) == before  # it ends with the work


def test_a_run_that_fails_says_why(copied):
    experiment, output = copied
    shutil.rmtree(output / "ntp/seed-1/train/step-000008")
    log = output / "ntp/seed-1/train/log.jsonl"
    log.unlink()
    log.mkdir()
    failures = run_experiment(experiment, output, engine=Local(1), on_event=lambda e: None)
    assert list(failures) == ["ntp, seed 1"]
    states = by_name(experiment, output)
    assert [state.state for state in states.values()] == ["done", "done", "failed", "done"]
    assert states["ntp, seed 1"].failure["message"] == failures["ntp, seed 1"].message


def test_json_has_all_runs_of_all_experiments(copied, ntpctp):
    experiment, output = copied
    shutil.copytree(output, output.parent / "second")
    done = ntpctp("status", str(output.parent), "--json")
    first, second = json.loads(done.out)
    assert first["directory"] == str(output.parent / "second") or second["experiment"] == "tiny"
    for record in (first, second):
        assert record["counts"] == {"done": 4} and record["seconds_left"] == 0
        assert [run["run"] for run in record["runs"]] == list(by_name(experiment, output))
        assert {run["arm"] for run in record["runs"]} == {"ntp", "ctp"}


def test_only_what_needs_a_look_is_listed_unless_all_is_asked_for(copied, ntpctp):
    _, output = copied
    assert "seed 0" not in ntpctp("status", str(output)).out
    listed = ntpctp("status", str(output), "--all").out
    assert all(run in listed for run in ("ntp, seed 0", "ctp, seed 1")) and "3/3" in listed


def test_of_many_runs_the_first_are_listed_and_each_reason_once(tmp_path):
    from rich.console import Console

    from ntpctp.report.terminal.status import states_tables
    from ntpctp.runner.status import RunStatus

    def state(seed):
        message = "RuntimeError: out of luck" if seed % 3 else "OSError: full"
        failed = {"message": message, "traceback": ""}
        return RunStatus(RunId("ntp", seed), "failed", "h", 1, 8, 2.0, 0, 3, 0.0, 1.0, failed)

    def shown(everything):
        console = Console(width=160, record=True, file=io.StringIO())
        for renderable in states_tables("many", [state(k) for k in range(90)], everything):
            console.print(renderable)
        return console.export_text()

    lines = shown(everything=False)
    assert "seed 59 " in lines and "seed 60 " not in lines and "and 30 more; --all" in lines
    reasons = [line for line in lines.splitlines() if "out of luck" in line or "full" in line]
    assert reasons == [
        "ntp, seed 1 and 59 more: RuntimeError: out of luck",
        "ntp, seed 0 and 29 more: OSError: full",
    ]
    assert "seed 89 " in shown(everything=True)


def test_no_experiment_is_an_error(tmp_path, ntpctp):
    done = ntpctp("status", str(tmp_path))
    assert done.code == 2 and "found no experiment.yaml" in done.err


def test_an_experiment_that_has_only_begun_is_waiting(copied, ntpctp):
    _, output = copied
    for arm in ("ntp", "ctp"):
        shutil.rmtree(output / arm)
    assert "4 runs: 4 waiting" in ntpctp("status", str(output)).out


@pytest.mark.parametrize("every", [None, 3, [1, 5, 900], "log"])
def test_what_was_asked_for_is_read_without_the_library(tmp_path, every):
    measures = ["accuracy", {"name": "flatness", "at": "last"}]
    content = tiny_content(evaluation={"every": every, "measures": measures})
    content["arms"] = {**content["arms"], "ctp": {"objective": "ctp", "training": {"steps": 13}}}
    experiment = experiment_of(content, "tiny")
    (tmp_path / EXPERIMENT).write_text(yaml.safe_dump(experiment.model_dump(mode="json")))
    asked = read_summary(tmp_path)
    assert (asked.name, asked.seeds) == (experiment.name, experiment.seeds)
    for name, arm in experiment.arms.items():
        last = arm.training.steps
        assert asked.measured_at(name) == {
            step: [measure.name for measure in experiment.evaluation.at(step, last)]
            for step in experiment.evaluation.checkpoint_steps(last)
        }
    look = f"import sys; from ntpctp.cli import app; app(['status', {str(tmp_path)!r}], \
standalone_mode=False); print({{'torch', 'transformers', 'pandas'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert "4 runs: 4 waiting" in done.stdout and done.stdout.endswith("set()\n")


@pytest.mark.parametrize(
    "text", ["", "- a list", "name: [", "name: x\narms: {a: {}}", "\x00", "a: !!python/name:os.x"]
)
def test_what_no_run_wrote_is_an_error(tmp_path, ntpctp, text):
    (tmp_path / EXPERIMENT).write_text(text)
    done = ntpctp("status", str(tmp_path))
    assert done.code == 2 and "not an experiment as `ntpctp run` writes it" in done.err
