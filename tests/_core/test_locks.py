"""Locks exclude other processes, and end with the process that holds them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context

import pytest

from ntpctp._core.errors import BusyError
from ntpctp._core.locks import alone, locked

HOLD = (
    "import sys, time; from pathlib import Path; from ntpctp._core.locks import alone, locked\n"
    "with {lock}:\n"
    "    print('held', flush=True); time.sleep(60)"
)


@contextmanager
def holder(lock: str) -> Iterator[subprocess.Popen]:
    """A process that holds ``lock``, an expression."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(lock=lock)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_second_process_is_refused(tmp_path):
    script = (
        "import sys; from pathlib import Path; from ntpctp._core.locks import locked\n"
        "with locked(Path(sys.argv[1]), 'this'): pass"
    )
    with locked(tmp_path, "this"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
        )
    assert "another process is working on this" in done.stderr
    with locked(tmp_path, "this"):
        pass  # free again


def test_second_holder_in_the_same_process_is_refused(tmp_path):
    with (
        locked(tmp_path, "the first"),
        pytest.raises(BusyError, match="another process is working on the second"),
        locked(tmp_path, "the second"),
    ):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_lock_ends_with_its_process_and_not_before(tmp_path, number):
    with holder(f"locked(Path({str(tmp_path)!r}), 'this')") as process:
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()
            with locked(tmp_path, "this"):
                pass
        else:  # a process that sleeps holds what it has
            with pytest.raises(BusyError), locked(tmp_path, "this", patience=0.2):
                pass
    assert (tmp_path / ".lock").read_bytes() == b""


def test_patience_waits_for_the_lock(tmp_path):
    with holder(f"locked(Path({str(tmp_path)!r}), 'this')") as process:
        process.send_signal(signal.SIGKILL)  # while or before the other waits
        with locked(tmp_path, "this", patience=60):
            pass


def test_alone_deletes_its_file_and_the_empty_directories_that_it_created(tmp_path):
    path = tmp_path / "a" / "b" / ".lock"
    with alone(path):
        assert path.is_file()
    assert list(tmp_path.iterdir()) == []
    with alone(path):
        (tmp_path / "a" / "result").write_text("1")
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "result"]


def test_alone_takes_over_from_a_killed_process(tmp_path):
    path = tmp_path / "a" / ".lock"
    with holder(f"alone(Path({str(path)!r}))") as process:
        process.kill()
        process.wait()
        assert path.is_file()
        with alone(path):
            pass
    assert not path.exists()


def count_up(path, times):
    """Add 1 to the number in a file beside the lock, ``times`` times, with a pause in between."""
    counter = path.parent.parent / "count"
    for _ in range(times):
        with alone(path):
            number = int(counter.read_text())
            os.sched_yield()
            counter.write_text(str(number + 1))


def test_alone_excludes_others_although_the_file_comes_and_goes(tmp_path):
    (tmp_path / "count").write_text("0")
    path = tmp_path / "directory" / ".lock"
    context = get_context("fork")
    processes = [context.Process(target=count_up, args=(path, 100)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert (tmp_path / "count").read_text() == "300"


@pytest.mark.parametrize("obstacle", ["file", "dangling link"])
def test_alone_does_not_wait_for_a_directory_that_cannot_be(tmp_path, obstacle):
    directory = tmp_path / "directory"
    if obstacle == "file":
        directory.write_text("")
    else:
        directory.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError), alone(directory / ".lock"):
        pass
