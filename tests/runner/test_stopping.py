"""SIGTERM at any moment: training stops at once, loses no step, and ends as if undisturbed."""

import json
import multiprocessing
import random
import shutil
import signal
import time

import pytest

from ntpctp._core import signals
from ntpctp._core.files import clear_temporaries
from ntpctp._core.layout import checkpoint_directory
from ntpctp._core.runtime import quiet_libraries
from ntpctp._core.signals import Stopped
from ntpctp.models import checkpoints
from tests.runner.run_contents import untimed_log
from tests.runner.stopped_training import (
    assert_same_end,
    names,
    request_stop,
    stop_training,
    stopping_at,
    train_on,
)
from tests.training.test_training import two_processes


@pytest.mark.parametrize(
    "steps",
    [[4], [2], [5], [0], [6], [9], [1, 2], [7, 8, 8], [4, 5, 7], range(10)],
    ids=lambda steps: ",".join(map(str, steps)),
)
@pytest.mark.slow
def test_stopped_before_some_steps(tmp_path, whole, steps):
    taken = []
    for step in steps:
        assert stop_training(tmp_path, prepares=stopping_at(step), takes=taken.append) == step
        # The one it carried on from is there until the next start has verified the new one.
        left = [p for p in sorted(tmp_path.glob("step-*")) if checkpoints.is_interrupted(p)]
        expected = [] if step in (0, 5) else [checkpoint_directory(tmp_path, step)]
        assert left[-1:] == expected and len(left) <= 2
        assert not {*left} & {*checkpoints.list_checkpoints(tmp_path)}
        point, refused = checkpoints.resume_point(tmp_path, [0, 5, 10])
        assert (point, refused) == (checkpoint_directory(tmp_path, step), [])
    train_on(tmp_path, takes=taken.append)
    assert taken == list(range(10))
    assert_same_end(whole, tmp_path)


@pytest.mark.parametrize("step", [0, 3, 4, 8, 9])
def test_a_step_that_is_begun_is_taken(tmp_path, whole, step):
    taken = []

    def takes(at):
        taken.append(at)
        if at == step:
            request_stop()
            request_stop()  # changes nothing

    # After the last step it is not for training to carry on, but for what comes after.
    assert stop_training(tmp_path, takes=takes) == (None if step == 9 else step + 1)
    train_on(tmp_path, takes=taken.append)
    assert taken == list(range(10))
    assert_same_end(whole, tmp_path)


def test_rates_are_over_the_whole_interval(tmp_path):
    def sleeps(step):
        time.sleep(0.02)

    stop_training(tmp_path, prepares=sleeps, takes=stopping_at(7))
    train_on(tmp_path, prepares=sleeps)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 5, 6, 9, 10]
    for before, line in zip([{"tokens": 0, "seconds": 0.0}, *lines], lines, strict=False):
        tokens, seconds = (line[name] - before[name] for name in ("tokens", "seconds"))
        assert line["tokens_per_second"] == pytest.approx(tokens / seconds, rel=0.1)


def test_what_is_done_with_checkpoints_stops_at_once(tmp_path, whole):
    seen = []

    def looks(path):
        seen.append(checkpoints.step_of(path))
        if seen == [0, 5]:
            request_stop()
            pytest.fail("goes on")
        return False

    assert stop_training(tmp_path, at_checkpoint=looks) == 5
    # Asked in the step before: it is not even begun.
    shutil.rmtree(tmp_path / "step-000005")
    assert stop_training(tmp_path, at_checkpoint=looks, takes=stopping_at(4)) == 5
    assert seen == [0, 5, 0]
    # An interrupted checkpoint is not looked at.
    assert stop_training(tmp_path, at_checkpoint=looks, prepares=stopping_at(7)) == 7
    assert seen == [0, 5, 0, 5]
    train_on(tmp_path, at_checkpoint=looks)
    assert seen == [0, 5, 0, 5, 10]
    assert_same_end(whole, tmp_path)


LONG = {"steps": 300, "wanted": range(60, 300, 60), "log_every": 7}


def train_in_child(directory, steps_taken):
    signals.listen()
    quiet_libraries()
    with steps_taken.open("a") as file:

        def takes(step):
            file.write(f"{step}\n")
            file.flush()

        try:
            train_on(directory, takes=takes, **LONG)
        except Stopped as request:
            raise SystemExit(75) from request


def lines_of(path):
    return path.read_text().split() if path.exists() else []


@pytest.mark.slow
def test_stopped_at_random_moments(tmp_path):
    """SIGTERM from another process, again and again."""
    context = multiprocessing.get_context("forkserver")
    moments, codes, waits, interrupted = random.Random(0), [], [], 0
    directory, steps_taken = tmp_path / "stopped", tmp_path / "steps"
    while True:
        begin = len(lines_of(steps_taken))
        process = context.Process(target=train_in_child, args=(directory, steps_taken))
        process.start()
        # Every fourth at any time, also before it listens; the others after some steps, however
        # fast the machine is.
        if len(codes) % 4 == 0:
            process.join(moments.uniform(0, 0.5))
        else:
            steps = moments.randint(1, 40)
            while process.is_alive() and len(lines_of(steps_taken)) < begin + steps:
                time.sleep(0.001)
        sent = time.monotonic()
        process.terminate()
        process.join()
        waits.append(time.monotonic() - sent)
        codes.append(process.exitcode)
        if process.exitcode == 0:
            break
        # Before it listens, nothing is lost either.
        assert process.exitcode in (75, -signal.SIGTERM)
        clear_temporaries(directory)  # as every run begins
        for path in checkpoints.list_checkpoints(directory):
            checkpoints.verify(path)
        interrupted += any(map(checkpoints.is_interrupted, directory.glob("step-*")))
        assert len(codes) < 60, "training makes no progress"
    print(f"{codes}, {interrupted} interrupted, at most {max(waits):.2f} s until the end")
    assert codes.count(75) >= 3 and interrupted >= 2
    assert max(waits) < 10
    assert lines_of(steps_taken) == [str(step) for step in range(300)]
    train_on(tmp_path / "whole", **LONG)
    assert_same_end(tmp_path / "whole", directory)


TWO = """
    import pytest
    from tests.runner import stopped_training as s

    me = PartialState().process_index
    long = {"log_every": 10}  # sums of five steps, which must not be added in another order
    s.train_on(out / "whole", **long)
    for who, step in [((1,), 2), ((0,), 4), ((1,), 7), ((0, 1), 8)]:
        stops = s.stopping_at(step) if me in who else s.stopping_at(None)
        assert s.stop_training(out / "stopped", prepares=stops, **long) == step
    s.train_on(out / "stopped", **long)

    # While the main process looks at a checkpoint, and the other waits for it.
    def looks(path):
        if path.name == "step-000005" and not (out / "looked").exists():
            (out / "looked").touch()
            s.request_stop()
            pytest.fail("goes on")
        return False
    assert s.stop_training(out / "looked-at", at_checkpoint=looks) == 5
    stops = s.stopping_at(4) if me == 1 else s.stopping_at(None)
    assert s.stop_training(out / "other", takes=stops, at_checkpoint=lambda path: False) == 5
    s.stop_training(out / "half", prepares=s.stopping_at(8), **long)
"""


@pytest.mark.slow
def test_two_processes_stop_together(tmp_path):
    two = two_processes(TWO, tmp_path)
    assert_same_end(two / "whole", two / "stopped")
    for name in ("looked-at", "other"):
        assert names(two / name) == ["log.jsonl", "step-000000", "step-000005"]
    # One process carries on from two: the sums in the log are those of all steps.
    train_on(two / "half", log_every=10)
    assert names(two / "half") == names(two / "whole")
    kept = ("step", "tokens", "supervised_tokens", "learning_rate")
    for ours, theirs in zip(untimed_log(two / "half"), untimed_log(two / "whole"), strict=True):
        assert [ours[name] for name in kept] == [theirs[name] for name in kept]
        # Dropout is another.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.1)
