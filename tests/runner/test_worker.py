"""What is made of what runs tell: which jobs follow, when a run is done, what is recorded."""

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ntpctp._core.errors import BusyError, InputError, lacks_memory
from ntpctp._core.layout import (
    RunId,
    checkpoint_directory,
    run_directory,
    scores_path,
    stage_directory,
)
from ntpctp._core.signals import Stopped
from ntpctp.config import experiment_of
from ntpctp.runner import heartbeat
from ntpctp.runner.engines import Failed, Failure, Job, Note
from ntpctp.runner.engines.base import attempt
from ntpctp.runner.events import Event
from ntpctp.runner.location import ExperimentLocation
from ntpctp.runner.worker import RunRequest, RunWatcher, experiment_digest
from tests.conftest import tiny_content

RUN = RunId("ntp", 0)
TASK = RunRequest({}, RUN, "out", "fingerprint", part="train")


@pytest.fixture
def experiment():
    content = tiny_content(evaluation={"every": 4, "measures": ["accuracy"]})
    return experiment_of({**content, "resources": {"gpus": 2, "cpus": 8}}, "tiny")


@pytest.fixture
def told():
    return []


@pytest.fixture
def watch(experiment, tmp_path, told):
    return RunWatcher(experiment, ExperimentLocation(tmp_path), [TASK], told.append)


def store_results(output, step):
    checkpoint = checkpoint_directory(stage_directory(output, RUN), step)
    path = scores_path(checkpoint, "accuracy")
    path.parent.mkdir(parents=True)
    path.write_text("{}")


def test_each_checkpoint_is_measured_while_training_goes_on(watch, told, tmp_path):
    assert [job.name for job in watch.initial_jobs] == ["ntp, seed 0"]
    assert watch.initial_jobs[0].resources.num_processes == 2
    (job,) = watch.on_event(Event(RUN, "checkpoint", 0, 8))
    assert job.name == "ntp, seed 0, step 0" and job.resources.gpus == 1
    assert job.arguments == (replace(TASK, part="measure", step=0),)
    assert watch.on_event(Event(RUN, "checkpoint", 0, 8)) == []  # once
    assert watch.on_event(Event(RUN, "checkpoint", 3, 8)) == []  # not asked for
    assert watch.on_event(Event(RUN, "training", 2, 8, 1.0)) == []
    assert told[-1].kind == "training"
    # Step 4 was measured by an earlier driver; the news of step 8 was lost with a machine.
    store_results(tmp_path, 4)
    (last,) = watch.on_end("ntp, seed 0", None)
    assert last.name == "ntp, seed 0, step 8"
    for step in (0, 8):
        assert not any(event.kind == "done" for event in told)
        store_results(tmp_path, step)
        assert watch.on_end(f"ntp, seed 0, step {step}", None) == []
    assert [event.kind for event in told][-2:] == ["measuring", "done"]
    assert (told[-2].done, told[-2].total) == (3, 3)
    watch.on_event(Event(RUN, "training", 8, 8, 1.0))  # late news
    assert told[-1].kind == "done"


def test_a_failure_is_told_and_recorded_once(watch, told, tmp_path, experiment):
    watch.on_event(Event(RUN, "checkpoint", 0, 8))
    watch.on_end("ntp, seed 0", Failure("diverged", "Traceback"))
    watch.on_end("ntp, seed 0, step 0", Failure("also"))
    assert [(event.kind, event.text) for event in told if event.text] == [("failed", "diverged")]
    assert not any(event.kind == "done" for event in told)
    record = heartbeat.read_failure(run_directory(tmp_path, RUN))
    assert record["experiment"] == experiment_digest(experiment)


def test_a_job_that_ends_well_without_its_results_is_a_failure(experiment, tmp_path, told):
    watch = RunWatcher(
        experiment, ExperimentLocation(tmp_path), [replace(TASK, part="all")], told.append
    )
    store_results(tmp_path, 0)
    assert watch.on_end("ntp, seed 0", None) == []
    assert told[-1].kind == "failed"
    assert "2 of 3 checkpoints are not measured" in told[-1].text
    assert json.loads((tmp_path / "ntp/seed-0/failure.json").read_text())["of_machine"]


def test_what_an_engine_notes_is_a_warning(watch, told):
    watch.on_event(Note("ntp, seed 0", "no machine has it"))
    assert told == [Event(RUN, "warning", text="no machine has it")]


def caused(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (InputError("mend it"), Failure("mend it")),
        (BusyError("later"), Failure("later", of_machine=True)),  # tried again unasked
        (OSError(28, "No space left"), Failure("[Errno 28] No space left", of_machine=True)),
        (MemoryError("no"), Failure("out of memory: no", of_machine=True)),
        (
            caused(InputError("cannot load"), MemoryError()),
            Failure("out of memory: cannot load", of_machine=True),
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            Failure("out of memory: DefaultCPUAllocator: can't allocate memory", of_machine=True),
        ),
        (
            caused(
                InputError("cannot load"),
                RuntimeError("unable to mmap 8 bytes from file <x>: Cannot allocate memory (12)"),
            ),
            Failure("out of memory: cannot load", of_machine=True),
        ),
        (
            OSError(errno.ENOMEM, ""),
            Failure("out of memory: [Errno 12] ", of_machine=True),
        ),
        (Failed(Failure("theirs", "trace")), Failure("theirs", "trace")),
        (
            Stopped(7),
            Failure(
                "stopped on request at step 7; run the same command again to resume",
                of_machine=True,
            ),
        ),
    ],
)
def test_what_a_job_raises_becomes_a_failure(error, failure):
    assert attempt(Job("job", raising, (error,)), print) == failure


def test_a_bug_keeps_its_traceback():
    failure = attempt(Job("job", raising, (KeyError("x"),)), print)
    assert failure.message == "KeyError: 'x'" and not failure.of_machine
    assert Path(__file__).name in failure.traceback


def raising(error, send):
    raise error


def test_what_lacks_memory_and_what_only_speaks_of_it():
    assert lacks_memory(RuntimeError("std::bad_alloc"))
    assert lacks_memory(caused(InputError("cannot load"), MemoryError()))
    assert not lacks_memory(InputError("answer: expected one of a, found 'Cannot allocate memory'"))
    try:
        try:
            raise MemoryError
        except MemoryError:
            raise InputError("one row of 7 tokens") from None
    except InputError as error:
        assert not lacks_memory(error)
