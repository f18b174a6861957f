"""What is pushed from one machine is what another pulls, and nothing goes twice."""

import multiprocessing
import os
import pickle
import shutil
import threading

import pytest

from ntpctp.models import checkpoints
from ntpctp.runner.stores import Store
from tests.runner.stores.stored import STEP, Remote, tree, write_checkpoint, write_results

RUN = "ntp/seed-0"


@pytest.fixture
def worker(url, hosts, trained):
    """A store whose working copy holds a run with a checkpoint and its results."""
    store = hosts(url, "worker")
    shutil.copytree(trained, store.copy / STEP)
    write_results(store.copy / STEP)
    write_results(store.copy / STEP, "quick/prontoqa/accuracy".replace("/", "-"))
    (store.copy / RUN / "run.json").write_text("{}")
    (store.copy / RUN / "train/log.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    (store.copy / "experiment.yaml").write_text("name: addition\n")
    return store


def test_what_is_pushed_is_what_is_pulled(worker, url, hosts):
    everything = tree(worker.copy)
    assert worker.push() == sum(map(len, everything.values())) > 10_000
    assert Remote(url).names() == set(everything)
    other = hosts(url)
    assert other.pull() == sum(map(len, everything.values()))
    assert tree(other.copy) == everything
    digest = checkpoints.verify(other.copy / STEP)
    assert digest == checkpoints.verify(worker.copy / STEP)
    assert other.pull() == 0 and worker.pull() == 0


def test_what_is_the_same_is_not_sent_again(worker, url, hosts):
    remote = Remote(url)
    worker.push()
    before = {name: remote.system.info(f"{remote.base}/{name}") for name in remote.names()}
    assert worker.push() == 0
    assert Store(url, worker.copy).push() == 0  # started again
    puller = hosts(url)
    puller.pull()
    assert puller.push() == 0
    after = {name: remote.system.info(f"{remote.base}/{name}") for name in remote.names()}
    assert before == after and len(before) > 15
    (worker.copy / RUN / "run.json").write_text("{ }")
    assert worker.push() == 3


def test_parts_are_pushed_and_pulled_alone(worker, url, hosts):
    worker.push(f"{RUN}/run.json")
    assert Remote(url).names() == {f"{RUN}/run.json"}
    worker.push(f"{STEP}/manifest.json")  # stands for its checkpoint
    assert Remote(url).names() == {
        f"{RUN}/run.json",
        *(f"{STEP}/{name}" for name in tree(worker.copy / STEP)),
    }
    worker.push()
    other = hosts(url)
    other.pull(f"{RUN}/train/log.jsonl")
    assert set(tree(other.copy)) == {f"{RUN}/train/log.jsonl"}
    other.pull(f"{RUN}/")
    assert set(tree(other.copy)) == set(tree(worker.copy)) - {"experiment.yaml"}
    assert other.push("nothing/here") == 0 and other.pull("nothing/here") == 0


def test_what_is_private_to_a_machine_stays_there(worker, url, hosts):
    for name in (".lock", f"{STEP}/evaluation/.measuring", ".encoded/a.arrow", f"{RUN}/.tmp-1-x/y"):
        (worker.copy / name).parent.mkdir(parents=True, exist_ok=True)
        (worker.copy / name).write_text("private")
    worker.push()
    remote = Remote(url)
    assert len(remote.names()) > 15
    assert not [name for name in remote.names() if b"private" in remote.read(name)]
    # And what another program left there is not taken.
    if url.startswith("s3"):
        remote.write("../outside", b"")
        remote.write(f"{RUN}/../../../outside", b"")
    remote.write(f"{RUN}/.tmp-2-z", b"")
    other = hosts(url)
    other.pull()
    assert not list(other.copy.parent.rglob("outside")) and not list(other.copy.rglob(".tmp*"))


def test_small_files_are_read_and_written_directly(url, hosts):
    store = hosts(url)
    assert not store.exists("leases/a.json") and store.list("leases") == () == store.list()
    with pytest.raises(FileNotFoundError, match=r"cannot read leases/a\.json: no such file$"):
        store.read_text("leases/a.json")
    store.write_text("leases/a.json", "ä")
    store.write_text("leases/a.json", "öü")
    store.write_text("leases/more/b.json", "")
    Remote(url).write("leases/.tmp-1-c.json", b"")
    other = hosts(url)
    assert other.read_text("leases/a.json") == "öü" and other.read_text("leases/more/b.json") == ""
    assert other.exists("leases/a.json") and other.exists("leases") and not other.exists("lea")
    assert other.list("leases") == ("a.json", "more") and other.list() == ("leases",)
    other.delete("leases/a.json")
    other.delete("leases/a.json")
    assert not store.exists("leases/a.json") and store.list("leases") == ("more",)


def test_what_other_hosts_write_is_seen_at_once(url, hosts):
    store, remote = hosts(url), Remote(url)
    for number in range(3):
        assert len(store.list("leases")) == number
        assert not store.exists(f"leases/{number}")
        store.pull()
        remote.write(f"leases/{number}", b"x")
        assert store.exists(f"leases/{number}")
        store.pull()
        assert len(tree(store.copy)) == number + 1


@pytest.mark.parametrize("part", ["/etc", "..", "a/../b", "a//b", "/"])
def test_parts_cannot_lead_out(directory, hosts, part):
    store = hosts(directory)
    for method in (store.push, store.pull, store.read_text, store.exists, store.delete):
        with pytest.raises(ValueError, match="expected a relative path below the store"):
            method(part)


def test_s3_requests(s3, hosts, trained, requests):
    """The costs that the docstrings state."""
    worker = hosts(s3, "worker")
    shutil.copytree(trained, worker.copy / STEP)
    write_results(worker.copy / STEP)
    files = len(tree(worker.copy))
    worker.push(STEP)
    # An empty directory costs two more: s3fs looks whether it is a file.
    assert requests == {"put_object": files, "list_objects_v2": 2, "head_object": files + 1}
    for _ in range(2):
        requests.clear()
        worker.push()
        assert requests == {"list_objects_v2": 1}
    requests.clear()
    Store(s3, worker.copy).push()
    assert requests == {"list_objects_v2": 1}
    requests.clear()
    other = hosts(s3)
    other.pull()
    assert requests == {"list_objects_v2": 1, "get_object": files}
    requests.clear()
    other.pull()
    other.push()
    assert requests == {"list_objects_v2": 2}
    requests.clear()
    driver = hosts(s3)
    driver.pull(weights=False)
    assert requests == {"list_objects_v2": 1, "get_object": files - 2}
    requests.clear()
    driver.pull(weights=False)
    assert requests == {"list_objects_v2": 1}
    requests.clear()
    Store(s3, driver.copy).pull(weights=False)
    assert requests == {"list_objects_v2": 1}
    requests.clear()
    other.write_text("a", "b")
    other.read_text("a")
    other.delete("a")
    assert requests == {"put_object": 1, "get_object": 1, "delete_object": 1}


def test_a_file_in_parts_is_sent_once(s3, hosts, requests, monkeypatch):
    size = 5 * 2**20  # the least that S3 allows
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda *_, **__: size)
    worker = hosts(s3, "worker")
    write_checkpoint(worker.copy / STEP, model__safetensors="0123456789abcdef" * (11 * 2**16))
    worker.push()
    assert requests["upload_part"] == 3 and not requests["get_object"]
    assert Store(s3, worker.copy).push() == 0 and not requests["get_object"]


@pytest.mark.parametrize("journal", [None, b"", b'["run.json", "v'])
def test_without_its_journal_content_is_read_and_compared(url, hosts, journal):
    worker = hosts(url, "worker")
    write_checkpoint(worker.copy / STEP)
    (worker.copy / "run.json").write_text("{}")
    assert worker.push() > 0 and worker.push() == 0
    path = worker.copy.with_name(f".{worker.copy.name}.sync.jsonl")
    assert len(path.read_text().splitlines()) == len(tree(worker.copy))
    path.unlink() if journal is None else path.write_bytes(journal)
    assert Store(url, worker.copy).push() == 0
    (worker.copy / "run.json").write_text("[]")
    assert Store(url, worker.copy).push() == 2


def test_without_a_version_content_is_read_and_compared(fast_url, hosts, monkeypatch):
    monkeypatch.setattr("ntpctp.runner.stores.journal.version_of", lambda info: None)
    worker = hosts(fast_url, "worker")
    write_checkpoint(worker.copy / STEP)
    (worker.copy / "run.json").write_text("{}")
    assert worker.push() > 0 and worker.push() == 0
    assert Store(fast_url, worker.copy).push() == 0
    other = hosts(fast_url)
    other.pull()
    assert tree(other.copy) == tree(worker.copy)
    (other.copy / "run.json").write_text("[]")
    assert other.push() == 2


def _push_in_child(inherited: Store, pickled: bytes) -> None:
    inherited.write_text("inherited", "x")
    store = pickle.loads(pickled)
    (store.copy / "child").write_text(str(os.getpid()))
    store.push()


def test_another_process_can_use_it(s3, hosts):
    store = hosts(s3, warn=lambda text: None)  # which cannot be pickled
    store.write_text("parent", "x")  # now there is a thread and a connection
    copied = pickle.loads(pickle.dumps(store))
    assert (copied.url, copied.copy) == (store.url, store.copy)
    store.copy.mkdir(parents=True)
    child = multiprocessing.get_context("fork").Process(
        target=_push_in_child, args=(store, pickle.dumps(store))
    )
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert store.read_text("child") == str(child.pid)
    assert store.list() == ("child", "inherited", "parent")


def test_threads_share_it(url, hosts):
    store = hosts(url)
    write_checkpoint(store.copy / STEP)
    problems = []

    def work(number):
        try:
            for k in range(3):
                (store.copy / f"{number}.txt").write_text(str(k))
                store.push()
                store.write_text(f"lease-{number}", str(k))
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    other = hosts(url)
    other.pull()
    assert {n: c for n, c in tree(other.copy).items() if "/" not in n} == {
        f"{name}{number}{end}": b"2"
        for number in range(4)
        for name, end in (("", ".txt"), ("lease-", ""))
    }


def test_small_writes_do_not_wait_for_a_push(directory, hosts):
    store = hosts(directory)
    with store._lock:  # as during a push of gigabytes
        store.write_text("lease", "x")
        assert store.read_text("lease") == "x" and store.exists("lease")
