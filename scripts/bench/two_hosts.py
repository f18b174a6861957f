"""Simulate two hosts as network namespaces: a Ray cluster, a store, and a lost connection.

Run as root, with the extras ray and s3 and moto:

    python scripts/bench/two_hosts.py

Each host has one core, its own network address, name and scratch directory; they share only an S3
server on the first. 12 runs are started from the first host. Then the network of the second is cut
without notice to Ray. Once its run resumes on the first host, the driver is killed, the network is
restored with a new Ray node, and the same command is started again. The result must equal that of
an undisturbed run on this machine, bit for bit. Prints a time line.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import yaml
from safetensors.torch import load_file

from ntpctp.runner.stores import Store

SPACE, CABLES = "ntpctp-host2", ("ntpctp-a", "ntpctp-b")
ADDRESSES = ("10.77.0.1", "10.77.1.2")  # the first remains when the connection is cut
RAY_PORT, S3_PORT = 6399, 5599
EXPERIMENT = {
    "name": "two-hosts",
    "task": {"name": "addition", "digits": 1, "train_size": 60, "test_size": 20},
    "model": {"family": "gpt2", "layers": 1, "width": 16, "heads": 2, "dtype": "float64"},
    "training": {"steps": 600, "batch_size": 8, "learning_rate": 1e-2, "log_every": 50},
    "arms": {"ntp": {"objective": "ntp"}, "ctp": {"objective": "ctp"}},
    "seeds": 6,
    "evaluation": {"every": 150, "measures": ["accuracy"]},
}
RUNS = [f"{arm}/seed-{n}" for arm in EXPERIMENT["arms"] for n in range(EXPERIMENT["seeds"])]


def sh(*words: object, check: bool = True, **options) -> subprocess.CompletedProcess:
    """Run a command."""
    return subprocess.run(list(map(str, words)), check=check, **options)


def environment(scratch: Path) -> dict[str, str]:
    """Return the environment of the processes of a host."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",  # the network is private
        "NTPCTP_SCRATCH": str(scratch),
        "AWS_ENDPOINT_URL": f"http://{ADDRESSES[0]}:{S3_PORT}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def connect() -> None:
    """Connect the addresses of both hosts by a pair of virtual interfaces."""
    sh("ip", "addr", "add", f"{ADDRESSES[0]}/32", "dev", "lo")
    sh("ip", "link", "add", CABLES[0], "type", "veth", "peer", "name", CABLES[1])
    sh("ip", "link", "set", CABLES[1], "netns", SPACE)
    sh("ip", "addr", "add", "10.77.1.1/24", "dev", CABLES[0])
    sh("ip", "link", "set", CABLES[0], "up")
    within = ("ip", "netns", "exec", SPACE, "ip")
    sh(*within, "addr", "add", f"{ADDRESSES[1]}/24", "dev", CABLES[1])
    sh(*within, "link", "set", CABLES[1], "up")
    sh(*within, "link", "set", "lo", "up")
    sh(*within, "route", "add", ADDRESSES[0], "via", "10.77.1.1")


def start_node(number: int, directory: Path) -> subprocess.Popen:
    """Start Ray on a host, under the host's name, in the foreground."""
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    ray += [f"--node-ip-address={ADDRESSES[number]}", "--disable-usage-stats"]
    if number == 0:
        ray += ["--head", f"--port={RAY_PORT}", "--include-dashboard=false"]
    else:
        ray += [f"--address={ADDRESSES[0]}:{RAY_PORT}"]
        named = f"hostname host2; exec {' '.join(ray)}"
        ray = ["ip", "netns", "exec", SPACE, "unshare", "--uts", "sh", "-c", named]
    scratch = directory / f"host{number + 1}"
    return subprocess.Popen(
        ray, env=environment(scratch), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def hosts(store: Store, runs: Iterable[str] = RUNS) -> dict[str, str]:
    """Return run -> the host that executes it, or executed it last."""
    found = {}
    for run in runs:
        if store.exists(f"{run}/worker.json"):
            found[run] = json.loads(store.read_text(f"{run}/worker.json"))["host"]
    return found


def training(store: Store, host: str) -> set[str]:
    """Return the runs in training on a host: they have some but not all steps."""
    steps = [f"step-{step:06d}/manifest.json" for step in (0, EXPERIMENT["training"]["steps"])]
    return {
        run
        for run, where in hosts(store).items()
        if where == host
        and [store.exists(f"{run}/train/{step}") for step in steps] == [True, False]
    }


def start_monitor() -> subprocess.Popen:
    """Start a process that ends when the cluster has lost a node."""
    code = (
        "import ray, sys, time\n"
        "ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)\n"
        "while all(node['Alive'] for node in ray.nodes()):\n"
        "    time.sleep(1)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code, f"{ADDRESSES[0]}:{RAY_PORT}"])


def until(condition, process: subprocess.Popen, seconds: float = 300) -> None:
    """Wait for a condition; exit if the driver ends before, or after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise SystemExit(f"the driver ended:\n{process.communicate()[0]}")
        if time.monotonic() > end:
            raise SystemExit(f"timeout after {seconds:g} s")
        time.sleep(1)


def weights(directory: Path) -> dict[str, dict[str, list]]:
    """Return all weights of all checkpoints below a directory."""
    return {
        str(path.relative_to(directory)): {k: v.tolist() for k, v in load_file(path).items()}
        for path in sorted(directory.glob("*/seed-*/train/step-*/model.safetensors"))
    }


def main() -> None:
    """Run the scenario described at the top of this file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("network namespaces need root: run this as root")
    directory = Path(tempfile.mkdtemp(prefix="ntpctp-two-hosts-"))
    file, url = directory / "experiment.yaml", "s3://bucket/two-hosts"
    file.write_text(yaml.safe_dump(EXPERIMENT))
    os.environ.update(environment(directory / "driver"))
    command = [sys.executable, "-m", "ntpctp", "run", str(file), "--output"]
    sh("ip", "netns", "add", SPACE)
    started = []
    try:
        connect()
        moto = [sys.executable, "-m", "moto.server", "-H", ADDRESSES[0], "-p", str(S3_PORT)]
        started.append(subprocess.Popen(moto, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        started.append(start_node(0, directory))
        time.sleep(10)
        started.append(start_node(1, directory))
        time.sleep(10)
        import s3fs

        s3fs.S3FileSystem().mkdir("bucket")
        store = Store(url, directory / "look")

        def drive() -> subprocess.Popen:
            on = [*command, url, "--on", f"ray:{ADDRESSES[0]}:{RAY_PORT}"]
            return subprocess.Popen(on, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        start = time.monotonic()

        def report(event: str) -> None:
            print(f"{time.monotonic() - start:.0f} s: {event}", flush=True)

        driver = drive()
        until(lambda: len(set(hosts(store).values())) == 2, driver)
        monitor = start_monitor()
        started.append(monitor)
        time.sleep(10)
        until(lambda: training(store, "host2"), driver)
        lost = training(store, "host2")
        sh("ip", "link", "set", CABLES[0], "down")
        report(f"the network of host2 is cut; {', '.join(sorted(lost))} was in training there")
        until(lambda: monitor.poll() is not None, driver)
        started.remove(monitor)
        report("Ray has noticed the loss")
        until(lambda: any(host != "host2" for host in hosts(store, lost).values()), driver, 900)
        report("its run resumes on the first host")
        driver.kill()
        driver.communicate()
        started.pop().terminate()
        sh("ip", "link", "set", CABLES[0], "up")
        started.append(start_node(1, directory))
        time.sleep(10)
        report("the driver is killed; it and host2 are started again")
        driver = drive()
        printed, _ = driver.communicate(timeout=900)
        if driver.returncode:
            raise SystemExit(printed)
        last = list(hosts(store).values())
        report("done; runs by the host that finished them: "
            + ", ".join(f"{name} {last.count(name)}" for name in sorted(set(last))))  # fmt: skip
        sh(*command, directory / "undisturbed", stdout=subprocess.DEVNULL)
        store.pull()
        expected = weights(directory / "undisturbed")
        same = weights(store.copy) == expected
        print(f"{len(expected)} checkpoints, the same weights as undisturbed: {same}")
        if not same:
            raise SystemExit(1)
    finally:
        for process in reversed(started):
            process.terminate()  # Ray ends its own processes
        for process in reversed(started):
            process.wait()
        sh("ip", "netns", "del", SPACE, check=False)
        sh("ip", "link", "del", CABLES[0], check=False, stderr=subprocess.DEVNULL)
        sh("ip", "addr", "del", f"{ADDRESSES[0]}/32", "dev", "lo", check=False)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
