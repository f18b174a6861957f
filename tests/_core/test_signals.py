"""A request to stop is heard wherever the process is, and raised once."""

import os
import pickle
import signal
import sys
import time

import pytest

from ntpctp._core import signals
from ntpctp._core.signals import Stopped


def request_stop():
    signal.raise_signal(signal.SIGTERM)


@pytest.fixture(autouse=True)
def reset_signals():
    yield
    signals.reset()


def test_outside_of_training_it_is_raised_at_once():
    before = signal.getsignal(signal.SIGTERM)
    signals.listen(signal.SIGUSR2)
    assert not signals.stop_requested()
    with pytest.raises(
        Stopped, match=r"^stopped on request; run the same command again to resume$"
    ) as one:
        request_stop()
        pytest.fail("goes on")
    assert one.value.step is None and signals.stop_requested()
    signal.raise_signal(signal.SIGUSR2)  # once it has begun to end, the next does not disturb it
    signals.reset()
    assert not signals.stop_requested() and signal.getsignal(signal.SIGTERM) is before
    signals.listen(signal.SIGUSR2)
    signals.listen()
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGUSR2)
    signals.reset()
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_request_within_a_finaliser_is_not_lost():
    class Lingering:
        def __del__(self):
            request_stop()

    before = sys.unraisablehook
    signals.listen()
    with pytest.raises(Stopped):
        Lingering()  # gone at once
        end = time.monotonic() + 10
        while time.monotonic() < end:
            time.sleep(0.001)
        pytest.fail("goes on")
    signals.reset()
    assert sys.unraisablehook is before


def test_deferred():
    signals.listen()
    reached = []
    with pytest.raises(Stopped), signals.deferred():
        with signals.deferred():
            request_stop()
        request_stop()
        reached.append("the end")
        assert signals.stop_requested()
    assert reached == ["the end"]
    # What is raised inside is not hidden by it.
    with pytest.raises(ZeroDivisionError), signals.deferred():
        raise ZeroDivisionError


def test_at_once_within_deferred():
    signals.listen()
    with signals.deferred():
        with pytest.raises(Stopped), signals.at_once():
            request_stop()
            pytest.fail("goes on")
        with pytest.raises(Stopped), signals.at_once():
            pytest.fail("is begun")
        signals.reset()


@pytest.mark.parametrize("instead", [ValueError("cannot load a model"), None])
def test_at_once_where_a_library_catches_everything(instead):
    signals.listen()
    with pytest.raises(Stopped), signals.at_once():
        try:
            request_stop()
        except Exception as error:
            if instead:
                raise instead from error


def test_message_names_the_step_in_other_processes_too():
    stop = pickle.loads(pickle.dumps(Stopped(17)))
    assert (stop.step, str(stop)) == (
        17,
        "stopped on request at step 17; run the same command again to resume",
    )
