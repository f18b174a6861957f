"""Which side wins, what is deleted, and files that change while they are pushed."""

import json
import os
import shutil
import threading
import time

import pytest

from ntpctp.models import checkpoints
from ntpctp.runner.stores import Store
from ntpctp.runner.stores.naming import checkpoint_of, paired
from ntpctp.runner.stores.remote import Remote as Files
from tests.runner.stores.stored import STEP, Remote, tree, write_checkpoint, write_results

STAGE = STEP.rpartition("/")[0]
LOG = f"{STAGE}/log.jsonl"


def step(number: int) -> str:
    return f"{STAGE}/step-{number:06d}"


def write(store: Store, name: str, text: str) -> None:
    (store.copy / name).parent.mkdir(parents=True, exist_ok=True)
    (store.copy / name).write_text(text)


# thin


def test_weights_that_were_deleted_here_are_deleted_there(url, hosts, trained):
    worker, late = hosts(url, "worker"), hosts(url)
    shutil.copytree(trained, worker.copy / step(2))
    write_checkpoint(worker.copy / step(4))
    worker.push()
    late.pull(step(2))
    checkpoints.thin(worker.copy / STEP)
    assert worker.push() == (worker.copy / STEP / "thin.json").stat().st_size
    assert Remote(url).names() == set(tree(worker.copy))
    assert len([name for name in Remote(url).names() if name.endswith(".safetensors")]) == 1
    assert worker.push() == 0
    reader = hosts(url)
    reader.pull()
    assert tree(reader.copy) == tree(worker.copy)
    assert checkpoints.is_thin(reader.copy / STEP) and checkpoints.verify(reader.copy / STEP)
    # A machine that still has them keeps them, and does not bring them back.
    assert late.push() == 0 and late.pull(step(2)) == 0
    assert (late.copy / STEP / "model.safetensors").is_file()
    assert Remote(url).names() == set(tree(worker.copy))
    # Nor does one that was killed between the two steps of thinning.
    shutil.copy(worker.copy / STEP / "thin.json", late.copy / STEP)
    assert Store(url, late.copy).push() == 0
    assert Remote(url).names() == set(tree(worker.copy))


def test_a_checkpoint_can_be_thin_when_it_is_pushed_first(fast_url, hosts, trained):
    worker, reader = hosts(fast_url, "worker"), hosts(fast_url)
    shutil.copytree(trained, worker.copy / STEP)
    checkpoints.thin(worker.copy / STEP)
    worker.push()
    reader.pull()
    assert tree(reader.copy) == tree(worker.copy) and checkpoints.verify(reader.copy / STEP)


def test_thin_deletes_nothing_but_weights(directory, hosts):
    said = []
    worker = hosts(directory, "worker", warn=said.append)
    write_checkpoint(worker.copy / STEP)
    write(worker, f"{STAGE}/other.safetensors", "x")
    worker.push()
    names = Remote(directory).names()
    deleted = ["trainer_state.json", "../other.safetensors", "manifest.json"]
    write(worker, f"{STEP}/thin.json", json.dumps({"deleted": deleted}))
    worker.push()
    assert Remote(directory).names() == names | {f"{STEP}/thin.json"} and said == []
    write(worker, f"{STEP}/thin.json", "{}")
    worker.push()
    assert said[0] == (
        f"not pushed: {STEP}/thin.json: damaged: expected a list of the deleted files"
    )


# interrupted checkpoints


def test_an_interrupted_checkpoint_is_deleted_after_the_next(url, hosts):
    worker = hosts(url, "worker")
    write_checkpoint(worker.copy / step(2))
    write_checkpoint(worker.copy / step(3), interval__json="{}")
    worker.push()
    reader = hosts(url)
    reader.pull()
    assert checkpoints.is_interrupted(reader.copy / step(3)) and checkpoints.verify(
        reader.copy / step(3)
    )
    before = Remote(url).names()
    shutil.rmtree(worker.copy / step(3))
    worker.push()
    assert Remote(url).names() == before  # no later one is there: it is all that is left
    write_checkpoint(worker.copy / step(4))
    worker.push(step(4))
    assert before < Remote(url).names()  # this was no push of the stage
    worker.push(STAGE)
    assert Remote(url).names() == set(tree(worker.copy))
    assert worker.list(STAGE) == ("step-000002", "step-000004")


def test_an_interrupted_checkpoint_goes_manifest_first(directory, hosts, monkeypatch):
    worker = hosts(directory, "worker")
    write_checkpoint(worker.copy / step(3), interval__json="{}")
    worker.push()
    shutil.rmtree(worker.copy / step(3))
    write_checkpoint(worker.copy / step(4))
    deleted, delete = [], Files.delete

    def counting(self, name):
        if len(deleted) % 3 == 2:
            deleted.append(None)
            raise KeyboardInterrupt
        deleted.append(name.rpartition("/")[2])
        delete(self, name)

    monkeypatch.setattr(Files, "delete", counting)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            worker.push()
        reader = hosts(directory)
        reader.pull()
        assert not (reader.copy / step(3)).exists()
    worker.push()
    names = [name for name in deleted if name]
    assert names[0] == "manifest.json" and names[-1] == "interval.json" and len(names) == 5
    assert Remote(directory).names() == set(tree(worker.copy))


def test_only_interrupted_checkpoints_are_ever_deleted(fast_url, hosts):
    worker = hosts(fast_url, "worker")
    for number in (1, 2, 3):
        write_checkpoint(worker.copy / step(number))
    write_results(worker.copy / step(1))
    write(worker, f"{STAGE}/log.jsonl", "{}\n")
    write(worker, "other/interval.json", "{}")
    worker.push()
    before = Remote(fast_url).names()
    # A wanted one that has replaced an interrupted one: interval.json is left, but not listed.
    Remote(fast_url).write(f"{step(2)}/interval.json", b"{}")
    for name in (step(1), step(2), "other"):
        shutil.rmtree(worker.copy / name)
    (worker.copy / STAGE / "log.jsonl").unlink()
    worker.push()
    assert Remote(fast_url).names() == before | {f"{step(2)}/interval.json"}
    worker.pull()
    assert not checkpoints.is_interrupted(worker.copy / step(2))
    assert checkpoints.verify(worker.copy / step(2))
    # A driver that has no such stage at all deletes nothing of it.
    write_checkpoint(worker.copy / step(3), interval__json="{}")
    write_checkpoint(worker.copy / step(4))
    worker.push()
    before = Remote(fast_url).names()
    driver = hosts(fast_url)
    write(driver, "report.html", "")
    driver.push()
    assert Remote(fast_url).names() == before | {"report.html"}


# who wins


def test_the_store_wins_but_for_checkpoints_that_verify_here(fast_url, hosts):
    worker, other = hosts(fast_url, "worker"), hosts(fast_url, "other")
    for store, name in ((worker, "worker"), (other, "other")):
        write_checkpoint(store.copy / STEP, trainer_state__json=f"{name:6}")
        write_results(store.copy / STEP, rows=f'{{"{name}": 1}}\n')
        write(store, "run.json", name)
        write(store, f"only-{name}", "")
    worker.push()
    own = tree(other.copy / STEP)
    assert other.pull() == len("worker")
    assert (other.copy / "run.json").read_text() == "worker"
    assert (other.copy / "only-other").exists() and (other.copy / "only-worker").exists()
    assert tree(other.copy / STEP) == own  # results of the store's would not hold for it
    # One that does not verify here is replaced, and what was measured of it is kept.
    write(other, f"{STEP}/model.safetensors", "damaged")
    write_results(other.copy / STEP, "flatness")
    other.pull()
    measured = {f"evaluation/flatness.{end}" for end in ("json", "jsonl")}
    found = tree(other.copy / STEP)
    assert {n: found[n] for n in set(found) - measured} == tree(worker.copy / STEP)
    assert measured < set(found)


def test_results_come_to_a_checkpoint_that_is_here(fast_url, hosts):
    worker, other = hosts(fast_url, "worker"), hosts(fast_url)
    write_checkpoint(worker.copy / STEP)
    worker.push()
    other.pull()
    write_results(other.copy / STEP, "flatness")
    write(worker, f"{STEP}/evaluation/half.jsonl", "{}\n")
    write(worker, f"{STEP}/evaluation/alone.json", "{}")
    write(worker, f"{STEP}/notes.txt", "good")
    write_results(worker.copy / STEP)
    worker.push()
    other.pull()
    assert set(tree(other.copy / STEP)) - set(tree(worker.copy / STEP)) == {
        "evaluation/flatness.json",
        "evaluation/flatness.jsonl",
    }
    # Rows without scores are half a result.
    assert set(tree(worker.copy / STEP)) - set(tree(other.copy / STEP)) == {"evaluation/half.jsonl"}
    # Of results that changed here and there, those of the store are taken.
    write_results(worker.copy / STEP, rows="{}\n")
    write_results(other.copy / STEP, rows='{"other": 1}\n')
    worker.push()
    other.pull()
    assert (other.copy / STEP / "evaluation/accuracy.jsonl").read_text() == "{}\n"


def test_a_log_that_goes_further_here_stays(fast_url, hosts):
    """Else the lines up to a checkpoint that was not pushed yet would be lost for good."""
    worker = hosts(fast_url, "worker")
    write(worker, LOG, '{"step": 1}\n')
    worker.push()
    longer = '{"step": 1, "seconds": 2}\n{"step": 2}\n'
    write(worker, LOG, longer + '{"st')
    again = Store(fast_url, worker.copy)
    again.pull()
    assert (worker.copy / LOG).read_text() == longer + '{"st'
    again.push()
    # As long or longer there: the store's.
    other = hosts(fast_url)
    write(other, LOG, "{}\n{}\n")
    other.pull()
    assert (other.copy / LOG).read_text() == longer + '{"st'
    # One that came from the store is not the worker's own, and follows it.
    write(worker, LOG, "{}\n")
    Store(fast_url, worker.copy).push()
    other.pull()
    assert (other.copy / LOG).read_text() == "{}\n"


def test_without_weights(url, hosts, trained):
    worker, driver = hosts(url, "worker"), hosts(url)
    shutil.copytree(trained, worker.copy / STEP)
    write_results(worker.copy / STEP)
    write(worker, "run.json", "{}")
    worker.push()
    driver.pull(weights=False)
    everything = tree(worker.copy)
    assert tree(driver.copy) == {n: c for n, c in everything.items() if "safetensors" not in n}
    assert driver.pull(weights=False) == 0
    write_results(worker.copy / STEP, rows="{}\n")
    worker.push()
    assert driver.pull(weights=False) == sum(
        map(len, tree(worker.copy / STEP / "evaluation").values())
    )
    assert driver.push() == 0  # what a driver does not have is not missing there
    assert Remote(url).names() == set(everything)
    driver.pull()
    assert tree(driver.copy) == tree(worker.copy)
    assert driver.pull(weights=False) == 0
    assert tree(driver.copy) == tree(worker.copy)


def test_only_some(fast_url, hosts):
    worker = hosts(fast_url, "worker")
    for number in (2, 4):
        write_checkpoint(worker.copy / step(number))
        write_results(worker.copy / step(number))
    write(worker, "run.json", "{}")
    worker.push()
    driver = hosts(fast_url)
    driver.pull(only=lambda name: "/evaluation/" in name or name == "run.json")
    found = tree(driver.copy)
    assert len(found) == 5 and all("/evaluation/" in n or n == "run.json" for n in found)
    driver.pull(only=lambda name: name.startswith(step(2)))
    assert checkpoints.verify(driver.copy / step(2))
    assert not (driver.copy / step(4) / "manifest.json").exists()
    driver.pull(only=lambda name: name.endswith("manifest.json"))
    assert tree(driver.copy) == tree(worker.copy)


# files that change


def test_files_that_vanish_are_skipped(fast_url, hosts, monkeypatch):
    worker = hosts(fast_url, "worker")
    write_checkpoint(worker.copy / step(2))
    write_checkpoint(worker.copy / step(4))
    for name in ("a", "b", "c"):
        write(worker, name, name)
    put = Files.put

    def vanishing(self, name, source):
        (worker.copy / "b").unlink(missing_ok=True)
        if name == f"{step(2)}/model.safetensors":
            shutil.rmtree(worker.copy / step(2))
        return put(self, name, source)

    monkeypatch.setattr(Files, "put", vanishing)
    worker.push()
    names = Remote(fast_url).names()
    assert {"a", "c", f"{step(4)}/manifest.json"} < names
    assert not {"b", f"{step(2)}/manifest.json"} & names


@pytest.mark.parametrize("late", ["adapter/adapter_config.json", "trainer_state.json"])
def test_a_checkpoint_that_is_made_again_meanwhile_waits(fast_url, hosts, monkeypatch, late):
    worker = hosts(fast_url, "worker")
    write_checkpoint(worker.copy / STEP, trainer_state__json="old")
    put = Files.put

    def replaced(self, name, source):
        if name == f"{STEP}/{late}":
            write_checkpoint(worker.copy / STEP, trainer_state__json="new")
        return put(self, name, source)

    with monkeypatch.context() as patch:
        patch.setattr(Files, "put", replaced)
        worker.push()
    assert f"{STEP}/manifest.json" not in Remote(fast_url).names()
    worker.push()
    reader = hosts(fast_url)
    reader.pull()
    assert (reader.copy / STEP / "trainer_state.json").read_text() == "new"


def test_rows_that_are_being_replaced_wait(fast_url, hosts):
    worker = hosts(fast_url, "worker")
    write_checkpoint(worker.copy / STEP)
    write_results(worker.copy / STEP)
    worker.push()
    before = {name: Remote(fast_url).read(name) for name in Remote(fast_url).names()}
    write(worker, f"{STEP}/evaluation/accuracy.jsonl", "{}\n{}\n{}\n")  # the scores come next
    worker.push()
    assert {name: Remote(fast_url).read(name) for name in Remote(fast_url).names()} == before
    write_results(worker.copy / STEP, rows="{}\n{}\n{}\n")
    assert worker.push() > 9


def test_results_outside_of_checkpoints_are_ordered_too(fast_url, hosts, monkeypatch):
    worker, order, put = hosts(fast_url, "worker"), [], Files.put

    def counted(self, name, source):
        order.append(name)
        return put(self, name, source)

    monkeypatch.setattr(Files, "put", counted)
    write_results(worker.copy / "measured/tiny")
    write(worker, "measured/tiny/evaluation/rows.jsonl", "{}\n")
    worker.push()
    assert sorted(order) == sorted(tree(worker.copy))
    names = [name.rpartition("/")[2] for name in order]
    assert names.index("accuracy.jsonl") < names.index("accuracy.json")
    reader = hosts(fast_url)
    reader.pull()
    assert tree(reader.copy) == tree(worker.copy)


def test_a_file_that_grows_while_it_is_pushed(url, hosts):
    worker, over = hosts(url, "worker"), threading.Event()
    write(worker, LOG, "")
    worker.push()
    lines = 0

    def train():
        nonlocal lines
        while not over.is_set():
            with (worker.copy / LOG).open("a") as file:
                file.write(f'{{"step": {lines}}}\n')
            lines += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        pushes = 0
        while pushes < 10 or lines < 6:
            worker.push()
            pushes += 1
            found = Remote(url).read(LOG).decode()
            assert (worker.copy / LOG).read_text().startswith(found)
    finally:
        over.set()
        thread.join()
    worker.push()
    assert Remote(url).read(LOG).decode().count("\n") == lines > 5
    assert worker.push() == 0


def test_a_new_time_alone_sends_nothing(fast_url, hosts):
    worker = hosts(fast_url, "worker")
    write(worker, "worker.json", "{}")
    worker.push()
    os.utime(worker.copy / "worker.json", (1, 1))
    assert worker.push() == 0 == Store(fast_url, worker.copy).push()


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_sent(fast_url, hosts):
    worker = hosts(fast_url, "worker")
    write(worker, "a", "1")
    worker.push()
    worker.push()
    write(worker, "b", "2")
    times = (worker.copy / "a").stat()
    os.utime(worker.copy / "b", ns=(times.st_atime_ns, times.st_mtime_ns))
    (worker.copy / "b").replace(worker.copy / "a")
    assert worker.push() == 1 and Remote(fast_url).read("a") == b"2"


def test_what_another_host_replaced_is_noticed(url, hosts):
    worker, other = hosts(url, "worker"), hosts(url)
    write(worker, "a", "1")
    worker.push()
    worker.push()
    Remote(url).write("a", b"2")
    other.pull()
    assert (other.copy / "a").read_text() == "2"
    assert worker.push() == 1  # the last to push wins
    other.pull()
    assert (other.copy / "a").read_text() == "1"


def test_a_file_that_is_replaced_while_it_is_pulled(url, hosts, monkeypatch):
    Remote(url).write("a", b"0" * 1000)
    get, contents = Files.get, [b"1" * 1000, b"2" * 1000]

    def replaced(self, name, path):
        if contents:
            Remote(url).write("a", contents.pop(0))
        size = get(self, name, path)
        if contents:
            Remote(url).write("a", contents.pop(0))
        return size

    monkeypatch.setattr(Files, "get", replaced)
    store = hosts(url)
    store.pull()
    assert (store.copy / "a").read_bytes() == b"1" * 1000  # as it was at one moment
    store.pull()
    assert (store.copy / "a").read_bytes() == b"2" * 1000
    # The copy does not take its old content for the new one.
    assert store.push() == 0 and store.pull() == 0


def test_a_file_that_is_deleted_while_it_is_pulled(fast_url, hosts, monkeypatch):
    worker = hosts(fast_url, "worker")
    write_checkpoint(worker.copy / STEP)
    write_results(worker.copy / "measured")
    write(worker, "a", "1")
    worker.push()
    get = Files.get

    def deleted(self, name, path):
        if name in ("a", f"{STEP}/model.safetensors", "measured/evaluation/accuracy.jsonl"):
            self.delete(name)
        return get(self, name, path)

    monkeypatch.setattr(Files, "get", deleted)
    store = hosts(fast_url)
    assert store.pull() == 0 and tree(store.copy) == {}


# names


@pytest.mark.parametrize(
    "name, checkpoint",
    [
        ("ntp/seed-0/train/step-000500", "ntp/seed-0/train/step-000500"),
        ("ntp/seed-0/train/step-000500/a/b", "ntp/seed-0/train/step-000500"),
        ("step-1234567/a", "step-1234567"),
        ("ntp/seed-0/train/step-500/a", None),
        ("ntp/seed-0/train/xstep-000500/a", None),
        ("ntp/seed-0/train/step-000500x/a", None),
        ("step-000001/seed-0/run.json", None),  # an arm of that name
        ("step-000001/seed-0", None),
        ("step-000001/seed-0/train/step-000500/a", "step-000001/seed-0/train/step-000500"),
        ("run.json", None),
    ],
)
def test_checkpoints_are_known_by_name(name, checkpoint):
    assert checkpoint_of(name) == checkpoint


def test_rows_and_scores_are_paired():
    names = ["a.json", "a.jsonl", "b.json", "c.jsonl", "d/a.jsonl"]
    assert paired(names) == ([("a.jsonl", "a.json")], ["b.json", "c.jsonl", "d/a.jsonl"])
