"""A cluster of two nodes on this machine: one is killed, the driver too, and nothing is lost."""

import json
import time

import pytest
import yaml

from ntpctp._core.errors import InputError
from ntpctp.analysis.scores import read_scores
from ntpctp.config import load_experiment
from ntpctp.runner.engines import Local, RayCluster
from ntpctp.runner.experiment import run_experiment
from tests import drivers
from tests.conftest import tiny_content
from tests.runner.engines.test_ray_vanished import processes_of
from tests.runner.run_contents import contents

CONTENT = tiny_content(
    seeds=3,
    training={"steps": 200, "batch_size": 8, "learning_rate": 1e-2, "log_every": 50},
    evaluation={"every": 50, "measures": ["accuracy"]},
)


@pytest.fixture
def cluster():
    """Two nodes of one core each; the first is also the head."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    nodes.second = nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.fixture
def start_driver():
    """Start the command; what was started ends with the test."""
    started = []

    def start(path, output, address):
        driver = drivers.start_driver("run", path, "--output", output, "--on", f"ray:{address}")
        started.append(driver)
        return driver

    yield start
    for driver in started:
        driver.kill()


def until(condition, driver, seconds=900):
    end = time.monotonic() + seconds
    while not condition():
        if driver.poll() is not None:
            raise AssertionError(f"the driver has ended: {driver.communicate()}")
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.05)


def worker_of(run):
    """The id of the process that trains a run, or did so last."""
    return json.loads((run / "worker.json").read_text())["process"]


def run_in_training_on(node, output):
    """Stop a node while one of its workers is training, and kill its workers; return the run.

    None, and the node goes on, where none is training.
    """
    servers, workers = processes_of(node)
    processes = [*servers, *workers]  # the servers first: they would restart a worker
    for process in processes:
        process.suspend()
    ids = {process.pid for process in workers}
    for path in sorted(output.glob("*/seed-*/train/step-000050")):
        run = path.parents[1]
        if worker_of(run) in ids and not (run / "train/step-000200").exists():
            for process in workers:
                process.kill()
            return run
    for process in processes:
        process.resume()
    return None


@pytest.mark.slow
def test_a_killed_node_and_a_killed_driver_lose_nothing(cluster, start_driver, tmp_path):
    path, output = tmp_path / "tiny.yaml", tmp_path / "disturbed"
    path.write_text(yaml.safe_dump(CONTENT))
    driver = start_driver(path, output, cluster.address)
    until(lambda: list(output.glob("*/seed-*/train/step-000050")), driver)
    lost = []
    until(lambda: lost.append(run_in_training_on(cluster.second, output)) or lost[-1], driver)
    lost_run, lost_worker = lost[-1], worker_of(lost[-1])
    cluster.remove_node(cluster.second, allow_graceful=False)
    # Another process resumes the run of the lost node, while the driver goes on.
    until(lambda: worker_of(lost_run) != lost_worker, driver)
    driver.kill()
    driver.communicate()
    cluster.add_node(num_cpus=1)
    driver = start_driver(path, output, cluster.address)
    code, _, errors = driver.outcome(timeout=900)
    assert code == 0, errors

    undisturbed = tmp_path / "undisturbed"
    failures = run_experiment(
        load_experiment(path), undisturbed, engine=Local(2), on_event=lambda e: None
    )
    assert not failures
    expected = contents(undisturbed)
    assert len(expected) == 6 * (1 + 5 * 4)
    assert contents(output) == expected
    scores = read_scores(output)
    assert len(scores[scores["step"] == 200].groupby(["arm", "seed"])) == 6


def test_a_cluster_that_does_not_answer_is_an_error_that_says_what_to_do(monkeypatch):
    engine = RayCluster("127.0.0.1:1")
    with pytest.raises(InputError, match=r"(?s)cannot reach Ray at 127.0.0.1:1.*ray start --head"):
        engine.run([], watcher=None)
