"""The local pool is told to stop, in moments when nothing is at hand to hear it."""

import multiprocessing
import os
import signal
import time

import pytest

from ntpctp._core import signals
from ntpctp.runner.engines import Job, Local, local


@pytest.fixture(autouse=True)
def as_before():
    interrupt = signal.getsignal(signal.SIGINT)
    yield
    signals.reset()
    signal.signal(signal.SIGINT, interrupt)


def tells_and_waits(send):
    send("begun")
    time.sleep(300)


def nothing(send):
    pass


class Deaf:
    """Catches what it is told, as code of others does."""

    def on_event(self, event):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except Exception as error:
            self.caught = error
        return []

    def on_end(self, name, failure):
        return []


def test_a_request_that_others_have_caught_is_heard_all_the_same():
    watcher, begun = Deaf(), time.monotonic()
    with signals.listening(), pytest.raises(signals.Stopped):
        Local(1).run([Job("waits", tells_and_waits, ())], watcher)
    assert isinstance(watcher.caught, signals.Stopped)
    assert time.monotonic() - begun < 250  # the job would have slept on


def test_a_request_at_the_very_end_of_a_worker_is_no_fault(monkeypatch):
    def asked():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        raise AssertionError("it was not heard")

    monkeypatch.setattr(local, "_kill_children", asked)
    receiving, sending = multiprocessing.Pipe(duplex=False)
    local._child(Job("job", nothing, ()), sending, 1)
    assert not receiving.poll()  # no failure was told
