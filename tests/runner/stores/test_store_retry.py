"""Networks that fail, users that have to act: what is tried again, and what is said."""

import errno
import importlib
import socket
import sys
import traceback

import fsspec
import pytest
import s3fs
from fsspec.implementations.local import LocalFileSystem

from ntpctp._core.errors import InputError
from ntpctp.runner.stores import Store, retry
from tests.runner.stores.stored import STEP, write_checkpoint

SECRET = "hunter2-secret"


@pytest.fixture
def fresh():
    """Clients that see the environment as it is now, and none that see it later."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def failing(monkeypatch, problem, times=99):
    """Let requests to S3 fail, the next so many times; return those that did."""
    failed, call = [], s3fs.S3FileSystem._call_s3

    async def call_s3(self, method, *arguments, **named):
        if len(failed) < times:
            failed.append(method)
            raise problem
        return await call(self, method, *arguments, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call_s3)
    return failed


def test_what_may_pass_is_tried_again(s3, hosts, monkeypatch):
    store = hosts(s3)
    write_checkpoint(store.copy / STEP)
    slept = []
    monkeypatch.setattr(retry.time, "sleep", slept.append)
    monkeypatch.setattr(retry, "WAITS", (1.0, 4.0, 15.0))
    failed = failing(monkeypatch, OSError(errno.EREMOTEIO, "We encountered an internal error"), 3)
    store.push()
    assert failed == ["list_objects_v2"] * 3 and slept == [1.0, 4.0, 15.0]
    assert store.exists(f"{STEP}/manifest.json")


@pytest.mark.parametrize(
    "problem",
    [
        OSError(errno.EBUSY, "Please reduce your request rate."),
        TimeoutError("The read operation timed out"),
        ConnectionResetError("Connection reset by peer"),
        fsspec.asyn.FSTimeoutError(),
    ],
)
def test_what_lasts_is_reported(s3, hosts, monkeypatch, problem):
    failed = failing(monkeypatch, problem)
    store = hosts(s3)
    for action, what in {
        lambda: store.push("a"): "cannot list a",
        lambda: store.push(): "cannot list it",
        lambda: store.read_text("a"): "cannot read a",
        lambda: store.write_text("a", ""): "cannot write a",
        lambda: store.exists("a"): "cannot look for a",
        lambda: store.delete("a"): "cannot delete a",
    }.items():
        failed.clear()
        with pytest.raises(OSError, match=what) as caught:
            action()
        assert len(failed) == 4
        text = str(caught.value)
        assert text.startswith(f"{s3}: ") and type(problem).__name__ in text
        assert "tried 4 times in 0 s" in text and "Run the same command again to resume" in text


def test_a_server_that_is_not_there(s3, hosts, monkeypatch, fresh):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(OSError, match=r"cannot list it \(EndpointConnectionError: .* tried 4"):
            hosts(s3).pull()


def test_a_full_disk_is_not_tried_again(directory, hosts, monkeypatch):
    tried = []

    def full(self, *arguments, **named):
        tried.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(LocalFileSystem, "pipe_file", full)
    with pytest.raises(OSError, match=r"cannot write a \(OSError: .*No space left.* tried 1 times"):
        hosts(directory).write_text("a", "")
    assert tried == [1]


def test_a_directory_that_cannot_be_listed_is_not_empty(directory, hosts, monkeypatch):
    store = hosts(directory)
    write_checkpoint(store.copy / STEP)
    store.push()
    ls = LocalFileSystem.ls

    def broken(self, path, **options):
        if path.endswith("adapter"):
            raise OSError(errno.EIO, "Input/output error")
        return ls(self, path, **options)

    monkeypatch.setattr(LocalFileSystem, "ls", broken)
    with pytest.raises(OSError, match="cannot list it"):
        hosts(directory).pull()


def test_permission_is_for_the_user(s3, hosts, monkeypatch):
    failed = failing(monkeypatch, PermissionError("Access Denied"))
    with pytest.raises(
        InputError, match=r"cannot list it \(PermissionError: Access Denied\); check"
    ):
        hosts(s3).pull()
    assert len(failed) == 1


def test_credentials_are_for_the_user(s3, hosts, monkeypatch, fresh):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(InputError, match=r"Unable to locate credentials\); check the credentials"):
        hosts(s3).write_text("a", "")


def test_there_is_no_bucket(s3, hosts):
    store = hosts("s3://no-such-bucket/runs")
    (store.copy).mkdir(parents=True)
    (store.copy / "a").write_text("a")
    for action in (
        store.pull,
        store.push,
        lambda: store.write_text("a", ""),
        lambda: store.exists("a"),
        store.list,
        lambda: store.delete("a"),
    ):
        with pytest.raises(
            InputError, match=r"^s3://no-such-bucket/runs: .*; create the bucket, or"
        ):
            action()


def test_a_name_that_can_be_no_bucket(s3, hosts):
    with pytest.raises(InputError, match=r"Invalid bucket name .*; correct the URL"):
        hosts("s3://no_bucket!/runs").pull()


def test_protocols_without_their_package(hosts, monkeypatch):
    with pytest.raises(InputError, match=r"package for gs:// is missing: pip install gcsfs$"):
        hosts("gs://bucket/runs").pull()
    with pytest.raises(InputError, match=r"sftp:// is missing: .*requires \"paramiko\""):
        hosts("sftp://host/runs").pull()
    registered = importlib.import_module("fsspec.registry")._registry
    monkeypatch.delitem(registered, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=r"package for s3:// is missing: pip install s3fs$"):
        hosts("s3://bucket/runs").pull()


def test_unknown_protocols(hosts):
    with pytest.raises(InputError, match=r"unknown protocol 'memry'; did you mean 'memory'\?; use"):
        hosts("memry://runs").pull()


def test_what_cannot_be_written_to(hosts, monkeypatch):
    def refuse(self, *arguments, **named):
        raise NotImplementedError

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", refuse)
    with pytest.raises(InputError, match="this protocol cannot write"):
        hosts("memory://read-only").write_text("a", "")


def test_faults_of_this_program_and_signals_are_passed_on(s3, hosts, monkeypatch):
    for problem in (KeyError("fault"), AssertionError("fault"), InputError("fault")):
        with monkeypatch.context() as patch:
            failed = failing(patch, problem)
            with pytest.raises(type(problem), match="fault") as caught:
                hosts(s3).pull()
            assert caught.value is problem and len(failed) == 1


def test_an_error_is_of_the_pull_not_of_its_threads(s3, hosts, monkeypatch):
    store = hosts(s3)
    for number in range(20):
        store.write_text(f"{number}", "x")
    call = s3fs.S3FileSystem._call_s3

    async def call_s3(self, method, *arguments, **named):
        if method == "get_object":
            raise OSError(errno.EREMOTEIO, "internal error")
        return await call(self, method, *arguments, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call_s3)
    with pytest.raises(OSError, match=r"cannot read \d+ \(OSError"):
        store.pull(weights=False)


# secrets


def said_by(action) -> str:
    try:
        action()
    except (InputError, OSError) as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("it did not fail")


def test_secrets_of_the_url_are_never_shown(hosts):
    url = f"memry://me:{SECRET}@host/runs?token={SECRET}"
    store = hosts(url)
    assert store.url == url and str(store) == "memry://me:***@host/runs?***"
    for text in (said_by(store.pull), repr(store), str(store), said_by(lambda: Store(f"a::{url}"))):
        assert SECRET not in text and "***" in text


@pytest.mark.parametrize("place", ["environment", "configuration", "url"])
def test_secrets_in_what_libraries_say_are_never_shown(hosts, monkeypatch, place):
    url = "memory://host/runs"
    if place == "environment":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    elif place == "configuration":
        monkeypatch.setitem(fsspec.config.conf, "s3", {"client_kwargs": {"secret": SECRET}})
    else:
        url = f"memory://me:{SECRET}@host/runs"

    def refuse(self, path, **named):
        raise OSError(f"cannot log in to {path} with {SECRET}")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "ls", refuse)
    text = said_by(hosts(url).pull)
    assert "cannot log in to" in text and SECRET not in text


def test_the_cause_is_told_where_it_holds_no_secret(directory, hosts, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "disk-error")  # is none, in spite of its name

    def broken(self, path, **named):
        raise OSError(errno.EIO, "disk-error")

    monkeypatch.setattr(LocalFileSystem, "ls", broken)
    with pytest.raises(OSError, match="disk-error") as caught:
        hosts(directory).pull()
    assert isinstance(caught.value.__cause__, OSError)
