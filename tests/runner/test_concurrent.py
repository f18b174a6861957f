"""Jobs of several experiments on one engine: whose news they are, and when each is over."""

from dataclasses import replace

import pytest

from ntpctp._core.layout import RunId, checkpoint_directory, scores_path, stage_directory
from ntpctp.config import experiment_of
from ntpctp.runner.concurrent import ConcurrentWatcher, ExperimentEvent
from ntpctp.runner.engines import Failure, Local, Note
from ntpctp.runner.events import Event
from ntpctp.runner.experiment import run_concurrently
from ntpctp.runner.location import ExperimentLocation
from ntpctp.runner.worker import RunRequest, RunWatcher
from tests.conftest import tiny_content

RUN = RunId("ntp", 0)
JOB = "ntp, seed 0"


def experiment(name):
    content = tiny_content(evaluation={"every": 8, "measures": ["accuracy"]}, seeds=1)
    return experiment_of({**content, "name": name}, name)


@pytest.fixture
def told():
    return {"a": [], "b": []}


@pytest.fixture
def over():
    return []


@pytest.fixture
def together(told, over, tmp_path):
    def watch(name, tasks):
        return RunWatcher(
            experiment(name), ExperimentLocation(tmp_path / name), tasks, told[name].append
        )

    task = RunRequest({}, RUN, "out", "fingerprint", part="train")
    watches = {"a": watch("a", [task]), "b": watch("b", [task, replace(task, run=RunId("ctp", 0))])}
    return ConcurrentWatcher(watches, lambda name, failures: over.append((name, failures)))


def store_results(output, step):
    path = scores_path(checkpoint_directory(stage_directory(output, RUN), step), "accuracy")
    path.parent.mkdir(parents=True)
    path.write_text("{}")


def test_news_reach_the_experiment_whose_job_has_sent_them(together, told, over, tmp_path):
    assert [job.name for job in together.initial_jobs] == [
        f"a: {JOB}",
        f"b: {JOB}",
        "b: ctp, seed 0",
    ]
    sent = []
    together.initial_jobs[1].work("b", lambda run, send: send(Event(run, "x")), RUN, sent.append)
    assert sent == [ExperimentEvent("b", Event(RUN, "x"))]
    assert together.on_event(ExperimentEvent("b", Event(RUN, "training", 1, 8, 2.0))) == []
    assert together.on_event(Note(f"a: {JOB}", "no machine has it")) == []
    assert [event.kind for event in told["a"]] == ["warning"]
    assert [event.kind for event in told["b"]] == ["training"]
    # Jobs that follow belong to the experiment, too; it is over with the last of them.
    (measuring,) = together.on_event(ExperimentEvent("a", Event(RUN, "checkpoint", 0, 8)))
    assert measuring.name == f"a: {JOB}, step 0"
    store_results(tmp_path / "a", 0)
    store_results(tmp_path / "a", 8)
    assert together.on_end(f"a: {JOB}", None) == [] and over == []
    together.on_end(measuring.name, None)
    assert over == [("a", {})]


def test_failures_are_told_with_the_experiment_that_they_are_of(together, told, over):
    failure = Failure("diverged")
    together.on_end(f"b: {JOB}", failure)
    together.on_end("b: ctp, seed 0", Failure("killed", of_machine=True))
    assert over == [("b", {JOB: failure, "ctp, seed 0": Failure("killed", of_machine=True)})]
    assert not told["a"]


def test_an_experiment_with_nothing_to_do_is_over_at_once(tmp_path, over):
    watch = RunWatcher(experiment("a"), ExperimentLocation(tmp_path), [], print)
    together = ConcurrentWatcher({"a": watch}, lambda name, failures: over.append((name, failures)))
    assert together.initial_jobs == [] and over == [("a", {})]


def test_no_experiment_waits_for_the_last_run_of_another(tmp_path):
    """With three runs at once, the second experiment's begins before the first is over."""
    experiments = {name: experiment(name) for name in ("a", "b")}
    order = []
    run_concurrently(
        experiments,
        {name: ExperimentLocation(tmp_path / name) for name in experiments},
        engine=Local(3),
        on_event=lambda name, event: order.append((name, event.kind)),
        on_finished=lambda name, failures: order.append((name, failures)),
    )
    assert order.index(("b", "training")) < order.index(("a", {}))
    assert [name for name, last in order if last == {}] in (["a", "b"], ["b", "a"])
    for name in experiments:
        assert len(list((tmp_path / name).rglob("step-000008/evaluation/accuracy.json"))) == 2
