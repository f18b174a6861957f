"""A cluster of two nodes on this machine: one is killed, the driver too, and nothing is lost."""

import json
import os
import subprocess
import sys
import time

import pytest
import yaml

from ntpctp._core.errors import InputError
from ntpctp.analysis.scores import read_scores
from ntpctp.config import load_experiment
from ntpctp.runner.engines import Local, RayCluster
from ntpctp.runner.experiment import run_experiment
from tests.conftest import tiny_content
from tests.runner.run_contents import contents

CONTENT = tiny_content(
    seeds=6,
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
    """A function that starts the command; what it has started ends with the test."""
    started = []

    def start(path, output, address):
        command = [sys.executable, "-m", "ntpctp", "run", path, "--output", output]
        driver = subprocess.Popen(
            [*map(str, command), "--on", f"ray:{address}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        started.append(driver)
        return driver

    yield start
    for driver in started:
        driver.kill()
        driver.wait()
        driver.stdout.close()


def until(condition, process, seconds=900):
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"the driver has ended: {process.communicate()[0]}")
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.05)


def workers(output):
    """The process that works, or worked last, on each run."""
    paths = sorted(output.glob("*/seed-*/worker.json"))
    return {path.parent: json.loads(path.read_text())["process"] for path in paths}


@pytest.mark.slow
def test_a_killed_node_and_a_killed_driver_lose_nothing(cluster, start_driver, tmp_path):
    path, output = tmp_path / "tiny.yaml", tmp_path / "disturbed"
    path.write_text(yaml.safe_dump(CONTENT))
    driver = start_driver(path, output, cluster.address)
    until(lambda: len(list(output.glob("*/seed-*/train/step-000050"))) >= 2, driver)
    begun = workers(output)
    cluster.remove_node(cluster.second, allow_graceful=False)
    # The run of the lost node is begun again by another process, while the driver goes on.
    until(lambda: any(workers(output)[run] != process for run, process in begun.items()), driver)
    driver.kill()
    driver.communicate()
    cluster.add_node(num_cpus=1)
    driver = start_driver(path, output, cluster.address)
    printed, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0, printed

    undisturbed = tmp_path / "undisturbed"
    failures = run_experiment(
        load_experiment(path), undisturbed, engine=Local(2), on_event=lambda e: None
    )
    assert not failures
    expected = contents(undisturbed)
    assert len(expected) == 12 * (1 + 5 * 4)
    assert contents(output) == expected
    scores = read_scores(output)
    assert len(scores[scores["step"] == 200].groupby(["arm", "seed"])) == 12


def test_a_cluster_that_does_not_answer_is_an_error_that_says_what_to_do(monkeypatch):
    engine = RayCluster("127.0.0.1:1")
    with pytest.raises(InputError, match=r"(?s)cannot reach Ray at 127.0.0.1:1.*ray start --head"):
        engine.run([], watcher=None)
