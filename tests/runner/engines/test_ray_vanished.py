"""A machine of a Ray cluster vanishes: nothing closes its connections, and nobody says so."""

import os
import sys
import time

import psutil
import pytest

from ntpctp.runner.engines import Job, RayCluster

# Ray's own waits for a minute until it gives a machine up.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 8,
}


@pytest.fixture
def cluster():
    """Two nodes of one core each."""
    from ray import cloudpickle
    from ray.cluster_utils import Cluster

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import it
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": HEALTH}
    nodes = Cluster(initialize_head=True, head_node_args=head)
    nodes.second = nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


def processes_of(node):
    """The servers of a node of a cluster, and the processes that they have started."""
    servers = [
        psutil.Process(info.process.pid) for kind in node.all_processes.values() for info in kind
    ]
    return servers, [child for server in servers for child in server.children(recursive=True)]


def holds(directory, name, send):
    """Wait for a word; but not when it is begun again."""
    (directory / f"{name}-{os.getpid()}").touch()
    send(name)
    while len(list(directory.glob(f"{name}-*"))) == 1 and not (directory / "over").exists():
        time.sleep(0.05)


class Vanishing:
    """Stops all processes of a node as soon as both jobs are at work."""

    def __init__(self, node, directory):
        self.node, self.directory = node, directory
        self.begun, self.stopped = [], []

    def on_event(self, name):
        self.begun.append(name)
        if len(self.begun) == 2:
            servers, workers = processes_of(self.node)
            self.stopped = [*servers, *workers]
            for process in self.stopped:
                process.suspend()
            self.at = time.monotonic()
            (self.directory / "over").touch()
        return []

    def on_end(self, name, failure):
        return []


@pytest.mark.slow
def test_its_job_is_begun_anew_elsewhere_long_before_ray_would(cluster, tmp_path):
    watcher = Vanishing(cluster.second, tmp_path)
    jobs = [Job(name, holds, (tmp_path, name)) for name in ("a", "b")]
    try:
        assert RayCluster(cluster.address).run(jobs, watcher) == {}
        took = time.monotonic() - watcher.at
    finally:
        for process in watcher.stopped:
            if process.is_running():
                process.resume()
    stopped = {process.pid for process in watcher.stopped}
    marks = [path.name.split("-") for path in tmp_path.glob("?-*")]
    (lost,) = {name for name, process in marks if int(process) in stopped}
    assert sorted(watcher.begun) == sorted(["a", "b", lost])
    assert sorted(name for name, _ in marks) == sorted(["a", "b", lost])
    assert took < 390  # Ray itself waits seven minutes for connections that nobody closed
