"""Killed at any request, damaged, or written to by two: nobody ever takes what is not whole."""

import shutil
import threading
from pathlib import Path

import fsspec
import pytest
import s3fs
from fsspec.implementations.local import LocalFileSystem

from ntpctp.models import checkpoints
from ntpctp.runner.stores import Store
from tests.runner.stores.stored import STEP, Remote, tree, write_checkpoint, write_results

LATER = "ntp/seed-0/train/step-000004"


class Killed(BaseException):
    """Nothing of a process that was killed runs after it, no clearing up either."""


class Death:
    """Kills, or calls ``then``, at the k-th change of the store; from then on nothing is done."""

    def __init__(self, monkeypatch, at=None, then=None):
        self.at, self.then, self.count, self.dead = at, then, 0, False
        for method in ("put_file", "pipe_file", "mv", "rm_file"):
            original = getattr(LocalFileSystem, method)
            monkeypatch.setattr(LocalFileSystem, method, self._local(method, original))
        call = s3fs.S3FileSystem._call_s3
        death = self

        async def call_s3(self, method, *arguments, **named):
            if method in ("put_object", "delete_object") and death.comes():
                raise ConnectionError("killed")
            return await call(self, method, *arguments, **named)

        monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call_s3)

    def comes(self) -> bool:
        if self.at is not None and not self.dead:
            self.count += 1
            self.dead = self.count > self.at
        return self.dead

    def _local(self, method, original):
        def changed(system, path, *arguments, **named):
            was_dead = self.dead
            if self.comes():
                if method == "put_file" and not was_dead:  # in the midst of it
                    content = Path(path).read_bytes()
                    Path(arguments[0]).write_bytes(content[: len(content) // 2])
                raise Killed
            result = original(system, path, *arguments, **named)
            if self.then is not None and method in ("mv", "rm_file"):
                self.then()
            return result

        return changed

    def push(self, store, at) -> bool:
        """Whether a push ends before its k-th change; the process is a new one each time."""
        self.at, self.count, self.dead = at, 0, False
        try:
            Store(store.url, store.copy).push()
        except (Killed, OSError):
            if not self.dead:
                raise
            return False
        finally:
            self.at, self.dead = None, False
        return True


@pytest.fixture(params=["file", "s3"])
def place(request):
    return request.getfixturevalue("directory" if request.param == "file" else "s3")


def whole_or_absent(store, step, *allowed) -> str | None:
    """What a puller has of a checkpoint: nothing, or one of those that were pushed."""
    said: list[str] = []
    reader = Store(store.url, store.copy.parent / "reader", warn=said.append)
    shutil.rmtree(reader.copy, ignore_errors=True)
    reader.pull()
    files = tree(reader.copy)
    assert not [name for name in files if ".tmp-" in name]
    if not (reader.copy / step).exists():
        return None
    digest = checkpoints.verify(reader.copy / step)
    assert digest in allowed
    for scores in (reader.copy / step).glob("evaluation/*.json"):
        # Rows and scores are of one measurement; the rows themselves name it.
        assert scores.with_suffix(".jsonl").is_file()
    return digest


@pytest.mark.slow
def test_a_killed_push_leaves_nothing_or_a_whole_checkpoint(place, hosts, trained, monkeypatch):
    worker = hosts(place, "worker")
    shutil.copytree(trained, worker.copy / STEP)
    write_results(worker.copy / STEP)
    (worker.copy / STEP).parent.joinpath("log.jsonl").write_text("{}\n")
    digest = checkpoints.verify(trained)
    death = Death(monkeypatch)
    remote, seen, at = Remote(place), [], 0
    while not death.push(worker, at):
        seen.append(whole_or_absent(worker, STEP, digest))
        if at:
            remote.system.rm(remote.base, recursive=True)
        at += 1
    # One change a file, and the renaming of each where there is one.
    assert at == (2 if place.startswith("file") else 1) * len(tree(worker.copy))
    assert seen.count(None) == len(seen) - (2 if place.startswith("file") else 1)
    assert seen[-1] == digest  # killed before the scores: the checkpoint is there


def test_a_push_that_was_killed_again_and_again_completes(place, hosts, trained, monkeypatch):
    worker = hosts(place, "worker")
    shutil.copytree(trained, worker.copy / STEP)
    write_results(worker.copy / STEP)
    death = Death(monkeypatch)
    pushes = 1
    while not death.push(worker, 3):  # each life is three changes long
        pushes += 1
    assert pushes > 3
    reader = hosts(place)
    reader.pull()
    assert tree(reader.copy) == tree(worker.copy)


def test_a_replaced_checkpoint_is_the_old_one_or_the_new_one_or_left_out(place, hosts, monkeypatch):
    worker = hosts(place, "worker")
    path = worker.copy / STEP
    write_checkpoint(path, trainer_state__json="old")
    old = checkpoints.verify(path)
    worker.push()
    write_checkpoint(path, trainer_state__json="new", model__safetensors="other weights")
    new = checkpoints.verify(path)
    death, at, seen = Death(monkeypatch), 0, []
    saved = {name: Remote(place).read(name) for name in Remote(place).names()}
    while not death.push(worker, at):
        seen.append(whole_or_absent(worker, STEP, old, new))
        for name, content in saved.items():
            Remote(place).write(name, content)
        at += 1
    assert seen[0] == old and None in seen and new not in seen and len(seen) >= 3
    assert whole_or_absent(worker, STEP, old, new) == new


def test_results_are_of_one_measurement(place, hosts, monkeypatch):
    worker = hosts(place, "worker")
    write_checkpoint(worker.copy / STEP)
    write_results(worker.copy / STEP, rows="{}\n")
    worker.push()
    old = tree(worker.copy / STEP / "evaluation")
    write_results(worker.copy / STEP, rows='{"new": 1}\n')
    new = tree(worker.copy / STEP / "evaluation")
    death, said = Death(monkeypatch), []
    for at in range(3):
        death.push(worker, at)
        reader = hosts(place, warn=said.append)
        reader.pull()
        found = tree(reader.copy / STEP / "evaluation")
        assert found in ({}, old, new)
        # One that had a good pair keeps it.
        reader = hosts(place)
        write_checkpoint(reader.copy / STEP)
        write_results(reader.copy / STEP, rows='{"own": 1}\n')
        own = tree(reader.copy / STEP / "evaluation")
        reader.pull()
        assert tree(reader.copy / STEP / "evaluation") in (own, old, new)
    assert any("left out these scores: they belong to other items" in text for text in said)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "checksum mismatch of "),
        (lambda content: content[:-1], "wrong size of "),
        (lambda content: None, "is missing"),
    ],
)
@pytest.mark.parametrize("weights", [True, False])
def test_damage_in_the_store_is_not_accepted(place, hosts, damage, reason, weights):
    worker = hosts(place, "worker")
    write_checkpoint(worker.copy / STEP)
    write_results(worker.copy / STEP)
    write_checkpoint(worker.copy / LATER)
    worker.push()
    remote = Remote(place)
    name = f"{STEP}/model.safetensors" if weights else f"{STEP}/trainer_state.json"
    content = remote.read(name)
    changed = damage(content)
    remote.delete(name) if changed is None else remote.write(name, changed)
    said = []
    reader = hosts(place, warn=said.append)
    reader.pull(weights=weights)
    reader.pull(weights=weights)
    assert not list((reader.copy / STEP).rglob("*")) and not list(reader.copy.rglob(".tmp*"))
    assert (reader.copy / LATER / "manifest.json").is_file()
    (text,) = said
    assert f"{reader}/{STEP}: left out this incomplete checkpoint: " in text and reason in text
    # Who has it whole sends it again, and then it is.
    assert Store(place, worker.copy).push() == len(content)
    reader.pull(weights=weights)
    assert (reader.copy / STEP / "manifest.json").is_file()


@pytest.mark.parametrize(
    "manifest",
    [
        b"{",
        b"[]",
        b'{"files": {"../x": {"bytes": 1}}}',
        b'{"files": {"../x": {"bytes": 1, "sha256": ""}}}',
    ],
)
def test_a_manifest_that_is_none_is_not_accepted(directory, hosts, manifest):
    worker = hosts(directory, "worker")
    write_checkpoint(worker.copy / STEP)
    worker.push()
    Remote(directory).write(f"{STEP}/manifest.json", manifest)
    said = []
    reader = hosts(directory, warn=said.append)
    reader.pull()
    assert tree(reader.copy) == {} and "manifest.json: " in said[0]
    # Here neither: nothing of it is pushed.
    (worker.copy / STEP / "manifest.json").write_bytes(manifest)
    (worker.copy / STEP / "model.safetensors").write_text("changed")
    store = Store(directory, worker.copy, warn=said.append)
    assert store.push() == 0 == store.push()
    assert said[1].startswith("not pushed: ") and len(said) == 2


def test_a_checkpoint_that_is_damaged_here_is_not_pushed(place, hosts):
    said = []
    worker = hosts(place, "worker", warn=said.append)
    for step in (STEP, LATER):
        write_checkpoint(worker.copy / step)
    with (worker.copy / STEP / "model.safetensors").open("r+b") as file:
        file.write(b"\xff")
    worker.push()
    worker.push()
    assert Remote(place).names() == {f"{LATER}/{name}" for name in tree(worker.copy / LATER)}
    (text,) = said
    assert text.startswith(
        f"not pushed: {worker.copy / STEP / 'model.safetensors'}: checksum mismatch"
    )
    # One that was, and is there already, is left as it is there.
    shutil.rmtree(worker.copy / STEP)
    write_checkpoint(worker.copy / STEP)
    worker.push()
    with (worker.copy / STEP / "model.safetensors").open("r+b") as file:
        file.write(b"\xff")
    assert Store(place, worker.copy).push() == 0
    assert Remote(place).read(f"{STEP}/model.safetensors") == b"weights" * 100


def test_two_writers_of_one_checkpoint(directory, hosts, monkeypatch):
    """One is killed at any change, at any change of the other; a puller has one of both or none."""
    writers = {}
    for name in ("first", "second"):
        writers[name] = hosts(directory, name)
        path = writers[name].copy / STEP
        write_checkpoint(path, adapter=False, trainer_state__json=f"{name:6}")
    digests = [checkpoints.verify(writer.copy / STEP) for writer in writers.values()]
    assert digests[0] != digests[1]
    found, moments = set(), 0

    def look():
        nonlocal moments
        moments += 1
        found.add(whole_or_absent(writers["first"], STEP, *digests))

    changes = len(tree(writers["first"].copy))
    death = Death(monkeypatch)
    for moment in range(1, changes + 1):
        for last in range(2 * changes + 1):
            shutil.rmtree(directory.removeprefix("file://"), ignore_errors=True)
            done = 0

            def meanwhile(moment=moment, last=last):
                nonlocal done
                done += 1
                if done == moment:
                    death.then = None
                    death.push(writers["second"], last)
                    look()
                    death.then = meanwhile

            death.then = meanwhile
            Store(directory, writers["first"].copy).push()
            death.then = None
            look()
            # Who is still alive mends it with its next push.
            Store(directory, writers["first"].copy).push()
            assert whole_or_absent(writers["first"], STEP, *digests) == digests[0]
    assert found == {None, *digests} and moments > 40


def test_one_that_writes_to_the_same_place_all_the_time_is_reported(directory, hosts, monkeypatch):
    worker = hosts(directory, "worker")
    write_checkpoint(worker.copy / STEP)
    root = Path(directory.removeprefix("file://"))
    move = LocalFileSystem.mv

    def moved(system, source, target, **options):
        move(system, source, target, **options)
        if target.endswith("trainer_state.json"):
            Path(target).write_text('{"step": 3}')

    monkeypatch.setattr(LocalFileSystem, "mv", moved)
    with pytest.raises(
        OSError, match=r"trainer_state\.json was written 3 times, and each time other"
    ):
        worker.push()
    assert not (root / STEP / "manifest.json").exists()


def test_readers_during_pushes(place, hosts):
    """Really at the same time, on all that is written: a checkpoint and a file that is replaced."""
    worker = hosts(place, "worker")
    worker.copy.mkdir(parents=True)
    big = worker.copy / "scores.parquet"
    over, problems = threading.Event(), []
    contents = [bytes([number]) * 300_000 for number in range(3)]
    big.write_bytes(contents[0])
    worker.push()

    def read():
        store = hosts(place)
        try:
            while not over.is_set():
                store.pull()
                assert (store.copy / "scores.parquet").read_bytes() in contents
                for step in store.copy.rglob("step-*"):
                    checkpoints.verify(step)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for step in range(1, 4):
            write_checkpoint(worker.copy / f"ntp/seed-0/train/step-{step:06d}")
            big.write_bytes(contents[step % 3])
            worker.push()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert problems == []


def test_a_temporary_name_is_of_one_writer_alone(hosts):
    # Two containers have the same process ids.
    url = "memory://two-writers"
    system, names = fsspec.filesystem("memory"), []
    original = type(system).mv

    def moved(self, source, target, **options):
        names.append(source)
        return original(self, source, target, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(system), "mv", moved)
        for _ in range(2):
            hosts(url).write_text("a/b.json", "x")
    assert len(set(names)) == 2
    assert all(name.startswith("/two-writers/a/.tmp-") for name in names)
