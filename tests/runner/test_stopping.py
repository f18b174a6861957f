"""SIGTERM at any moment: training stops at once, loses no step, and ends as if nothing had been."""

import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import sys
import time

import pytest
from accelerate import Accelerator

from ntpctp._core import files, signals
from ntpctp._core.errors import InputError
from ntpctp._core.files import clear_temporaries
from ntpctp._core.layout import checkpoint_directory
from ntpctp._core.runtime import quiet_libraries
from ntpctp._core.signals import Stopped
from ntpctp.config import Keep
from ntpctp.models import checkpoints
from ntpctp.objectives import CTP
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.runner.callbacks import checkpoints_to_thin
from ntpctp.training import TrainingOptions
from ntpctp.training.loop import TrainingLoop
from tests.runner.test_kill import told
from tests.training.test_training import OPTIONS, TOKENIZER, model_of, two_processes, uneven_rows

WANTED = [5]  # beside 0 and 10; the log has lines at 3, 5, 6, 9, 10


def ask():
    signal.raise_signal(signal.SIGTERM)


class Rows(SupervisedExamples):
    """Tells which step is being prepared."""

    step, prepares = None, staticmethod(lambda step: None)

    def batch(self, indices, step, **options):
        self.step = step
        self.prepares(step)
        return super().batch(indices, step, **options)


def trained(
    directory,
    *,
    prepares=lambda step: None,
    takes=lambda step: None,
    wanted=WANTED,
    at_checkpoint=None,
    warn=lambda message: None,
    **changes,
):
    """Train on what is there. Tell what each step ``prepares`` to do, and which it ``takes``."""
    # What is carried on from has to replace the weights, hence another seed.
    begun = (directory / "step-000000").exists()
    model = model_of(seed=77 if begun else 0, dropout=0.3)
    data = Rows(uneven_rows(), CTP())
    data.prepares = prepares
    model.transformer.register_forward_pre_hook(lambda *arguments: takes(data.step))
    TrainingLoop(
        model=model,
        tokenizer=TOKENIZER,
        data=data,
        options=TrainingOptions(**{**OPTIONS, **changes}),
        seed=0,
        directory=directory,
        checkpoint_steps=wanted,
        accelerator=Accelerator(),
        at_checkpoint=at_checkpoint,
        warn=warn,
    ).run()


def asking_at(step):
    return lambda at: ask() if at == step else None


def stopped(directory, **options):
    """Train, which has to be stopped; return the step."""
    signals.listen()
    try:
        with pytest.raises(Stopped) as caught:
            trained(directory, **options)
    finally:
        signals.reset()
    return caught.value.step


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def assert_same_end(whole, other):
    """All files of all checkpoints, and the log; but for what a clock decides."""
    assert names(other) == names(whole)
    compared = 0
    for path in checkpoints.list_checkpoints(whole):
        checkpoints.verify(other / path.name)
        assert names(other / path.name) == names(path)
        for file in path.iterdir():
            if file.name not in ("trainer_state.json", "manifest.json"):
                assert file.read_bytes() == (other / path.name / file.name).read_bytes(), file
                compared += file.suffix == ".safetensors"
        ours, theirs = (vars(checkpoints.read_progress(d / path.name)) for d in (other, whole))
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
    assert compared >= 2 * 3
    assert told(other) == told(whole)


@pytest.fixture(autouse=True)
def forgotten():
    yield
    signals.reset()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The undisturbed run."""
    directory = tmp_path_factory.mktemp("whole")
    trained(directory)
    assert names(directory) == ["log.jsonl", "step-000000", "step-000005", "step-000010"]
    assert [line["step"] for line in told(directory)] == [3, 5, 6, 9, 10]
    return directory


@pytest.mark.parametrize(
    "steps",
    [[4], [2], [5], [0], [6], [9], [1, 2], [7, 8, 8], [4, 5, 7], range(10)],
    ids=lambda steps: ",".join(map(str, steps)),
)
def test_stopped_before_some_steps(tmp_path, whole, steps):
    taken = []
    for step in steps:
        assert stopped(tmp_path, prepares=asking_at(step), takes=taken.append) == step
        # The one it carried on from is there until the next start has verified the new one.
        left = [p for p in sorted(tmp_path.glob("step-*")) if checkpoints.is_interrupted(p)]
        expected = [] if step in (0, 5) else [checkpoint_directory(tmp_path, step)]
        assert left[-1:] == expected and len(left) <= 2
        assert not {*left} & {*checkpoints.list_checkpoints(tmp_path)}
        point, refused = checkpoints.resume_point(tmp_path, [0, 5, 10])
        assert (point, refused) == (checkpoint_directory(tmp_path, step), [])
    trained(tmp_path, takes=taken.append)
    assert taken == list(range(10))
    assert_same_end(whole, tmp_path)


@pytest.mark.parametrize("step", [0, 3, 4, 8, 9])
def test_a_step_that_is_begun_is_taken(tmp_path, whole, step):
    taken = []

    def takes(at):
        taken.append(at)
        if at == step:
            ask()
            ask()  # changes nothing

    # After the last step it is not for training to carry on, but for what comes after.
    assert stopped(tmp_path, takes=takes) == (None if step == 9 else step + 1)
    trained(tmp_path, takes=taken.append)
    assert taken == list(range(10))
    assert_same_end(whole, tmp_path)


def test_rates_are_over_the_whole_interval(tmp_path):
    def sleeps(step):
        time.sleep(0.02)

    stopped(tmp_path, prepares=sleeps, takes=asking_at(7))
    trained(tmp_path, prepares=sleeps)
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
            ask()
            pytest.fail("goes on")
        return False

    assert stopped(tmp_path, at_checkpoint=looks) == 5
    # Asked in the step before: it is not even begun.
    shutil.rmtree(tmp_path / "step-000005")
    assert stopped(tmp_path, at_checkpoint=looks, takes=asking_at(4)) == 5
    assert seen == [0, 5, 0]
    # An interrupted checkpoint is not looked at.
    assert stopped(tmp_path, at_checkpoint=looks, prepares=asking_at(7)) == 7
    assert seen == [0, 5, 0, 5]
    trained(tmp_path, at_checkpoint=looks)
    assert seen == [0, 5, 0, 5, 10]
    assert_same_end(whole, tmp_path)


LONG = {"steps": 300, "wanted": range(60, 300, 60), "log_every": 7}


def train_in_child(directory, taken):
    signals.listen()
    quiet_libraries()
    with taken.open("a") as file:

        def takes(step):
            file.write(f"{step}\n")
            time.sleep(0.002)  # so that no machine is done before it was asked three times

        try:
            trained(directory, takes=takes, **LONG)
        except Stopped as request:
            raise SystemExit(75) from request


@pytest.mark.slow
def test_asked_again_and_again(tmp_path):
    """SIGTERM from another process, at random moments."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.runner.test_stopping"])
    moments, codes, waits, interrupted = random.Random(0), [], [], 0
    directory, taken = tmp_path / "asked", tmp_path / "taken"
    while True:
        process = context.Process(target=train_in_child, args=(directory, taken))
        process.start()
        # Later and later: on a busy machine a process may not even listen so soon.
        process.join(moments.uniform(0.2, 0.7) * 1.1 ** len(codes))
        begun = time.monotonic()
        process.terminate()
        process.join()
        waits.append(time.monotonic() - begun)
        codes.append(process.exitcode)
        if process.exitcode == 0:
            break
        # Before it listens, nothing is lost either.
        assert process.exitcode in (75, -signal.SIGTERM)
        clear_temporaries(directory)  # as every run begins
        for path in checkpoints.list_checkpoints(directory):
            checkpoints.verify(path)
        interrupted += any(map(checkpoints.is_interrupted, directory.glob("step-*")))
        assert len(codes) < 60, "training does not get on"
    print(f"{codes}, {interrupted} interrupted, at most {max(waits):.2f} s until the end")
    assert codes.count(75) >= 3 and interrupted >= 2
    assert max(waits) < 10
    assert taken.read_text().split() == [str(step) for step in range(300)]
    trained(tmp_path / "whole", **LONG)
    assert_same_end(tmp_path / "whole", directory)


TWO = """
    import pytest
    from tests.runner import test_stopping as s

    me = PartialState().process_index
    long = {"log_every": 10}  # sums of five steps, which must not be added in another order
    s.trained(out / "whole", **long)
    for who, step in [((1,), 2), ((0,), 4), ((1,), 7), ((0, 1), 8)]:
        asks = s.asking_at(step) if me in who else s.asking_at(None)
        assert s.stopped(out / "asked", prepares=asks, **long) == step
    s.trained(out / "asked", **long)

    # While the main process looks at a checkpoint, and the other waits for it.
    def looks(path):
        if path.name == "step-000005" and not (out / "looked").exists():
            (out / "looked").touch()
            s.ask()
            pytest.fail("goes on")
        return False
    assert s.stopped(out / "looked-at", at_checkpoint=looks) == 5
    asks = s.asking_at(4) if me == 1 else s.asking_at(None)
    assert s.stopped(out / "other", takes=asks, at_checkpoint=lambda path: False) == 5
    s.stopped(out / "half", prepares=s.asking_at(8), **long)
"""


@pytest.mark.slow
def test_two_processes_stop_together(tmp_path):
    two = two_processes(TWO, tmp_path)
    assert_same_end(two / "whole", two / "asked")
    for name in ("looked-at", "other"):
        assert names(two / name) == ["log.jsonl", "step-000000", "step-000005"]
    # One process carries on from two: the sums in the log are those of all steps.
    trained(two / "half", log_every=10)
    assert names(two / "half") == names(two / "whole")
    kept = ("step", "tokens", "supervised_tokens", "learning_rate")
    for ours, theirs in zip(told(two / "half"), told(two / "whole"), strict=True):
        assert [ours[name] for name in kept] == [theirs[name] for name in kept]
        # Dropout is another.
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.1)


def test_interrupted_checkpoint_that_is_damaged_is_left_out(tmp_path, whole):
    stopped(tmp_path, prepares=asking_at(7))
    (tmp_path / "step-000007/model.safetensors").write_bytes(b"damaged")
    warnings, taken = [], []
    again = {"warn": warnings.append, "takes": taken.append}
    assert stopped(tmp_path, prepares=asking_at(7), **again) == 7
    trained(tmp_path, **again)
    assert len(warnings) == 1 and "step-000007/model.safetensors: damaged" in warnings[0]
    assert taken == [5, 6, 7, 8, 9]
    assert_same_end(whole, tmp_path)


def test_damage_to_it_does_not_reach_later_checkpoints(tmp_path, whole):
    stopped(tmp_path, prepares=asking_at(4))
    shutil.copytree(whole / "step-000005", tmp_path / "step-000005")  # killed before it was deleted
    (tmp_path / "step-000004/model.safetensors").write_bytes(b"damaged")
    point, refused = checkpoints.resume_point(tmp_path, [0, 5, 10])
    assert point == tmp_path / "step-000005" and len(refused) == 1


@pytest.mark.parametrize("file", ["interval.json", "model.safetensors"])
def test_interrupted_checkpoint_that_no_longer_looks_like_one(tmp_path, whole, file):
    stopped(tmp_path, prepares=asking_at(4))
    (tmp_path / "step-000004" / file).unlink()
    warnings, taken = [], []
    trained(tmp_path, warn=warnings.append, takes=taken.append)
    assert len(warnings) == 1 and f"step-000004/{file}: missing" in warnings[0]
    assert taken == list(range(10))
    assert_same_end(whole, tmp_path)


def test_damage_to_a_checkpoint_that_is_not_wanted_costs_nothing(tmp_path):
    trained(tmp_path, wanted=[3, 5])
    (tmp_path / "step-000003/model.safetensors").write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "step-000010")
    warnings, taken = [], []
    trained(tmp_path, warn=warnings.append, takes=taken.append)
    assert len(warnings) == 1 and taken == [5, 6, 7, 8, 9]


def lines(directory):
    return (directory / "log.jsonl").read_text().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (lambda log: log[:-1], 5),
        (lambda log: [], 0),
        (lambda log: [log[0].replace('"loss": ', '"loss": 1'), *log[1:]], 0),
        (lambda log: [log[0].replace('"step"', '"stop"'), *log[1:]], 0),
        (lambda log: [*log[:3], log[3][:-9], log[4]], 5),
        (lambda log: [*log[:2], *log[3:]], 5),
        # What a clock decides may be another, as where a run was carried on elsewhere.
        (lambda log: [log[0].replace('"seconds": ', '"seconds": 1'), *log[1:]], 10),
    ],
)
def test_steps_whose_log_is_damaged_are_trained_again(tmp_path, whole, change, first):
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "out/log.jsonl").write_text("".join(change(lines(whole))))
    warnings, taken = [], []
    trained(tmp_path / "out", warn=warnings.append, takes=taken.append)
    assert taken == list(range(first, 10))
    assert len(warnings) == (first != 10)
    assert all("log.jsonl: damaged: up to step-0000" in warning for warning in warnings)
    assert_same_end(whole, tmp_path / "out")


def test_killed_while_a_damaged_checkpoint_is_made_again(tmp_path, whole):
    """The later ones are whole, and yet the log between is to be written anew."""
    shutil.copytree(whole, tmp_path / "out")
    (tmp_path / "out/step-000005/model.safetensors").write_bytes(b"damaged")

    def killed(step):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "out", takes=killed)
    assert [line["step"] for line in told(tmp_path / "out")] == [3, 5, 6]
    trained(tmp_path / "out")
    assert_same_end(whole, tmp_path / "out")


def test_interrupted_checkpoint_that_has_come_to_be_wanted(tmp_path):
    trained(tmp_path / "whole", wanted=[5, 7])
    stopped(tmp_path / "out", prepares=asking_at(7))
    taken = []
    trained(tmp_path / "out", wanted=[5, 7], takes=taken.append)
    assert taken == [5, 6, 7, 8, 9]
    assert_same_end(tmp_path / "whole", tmp_path / "out")


def test_interrupted_checkpoint_behind_one_that_has_come_to_be_wanted(tmp_path):
    trained(tmp_path / "whole", wanted=[1, 5])
    out = tmp_path / "out"
    stopped(out, prepares=asking_at(2))
    assert stopped(out, wanted=[1, 5], prepares=asking_at(1)) == 1
    # The log that went with the one at 2 is no more: it has a line at 1 now.
    assert names(out) == ["log.jsonl", "step-000000", "step-000001"]
    trained(out, wanted=[1, 5])
    assert_same_end(tmp_path / "whole", out)


def test_checkpoints_that_are_no_longer_wanted_stay(tmp_path, whole):
    trained(tmp_path, wanted=[3, 5])
    for step in ("step-000005", "step-000010"):
        shutil.rmtree(tmp_path / step)
    before = checkpoints.verify(tmp_path / "step-000003")
    assert stopped(tmp_path, prepares=asking_at(3)) == 3
    assert not checkpoints.is_interrupted(tmp_path / "step-000003")
    assert stopped(tmp_path, prepares=asking_at(4)) == 4
    trained(tmp_path)
    assert names(tmp_path)[1:] == ["step-000000", "step-000003", "step-000005", "step-000010"]
    assert checkpoints.verify(tmp_path / "step-000003") == before


def test_killed_while_one_is_deleted(tmp_path, whole, monkeypatch):
    stopped(tmp_path, prepares=asking_at(4))

    def killed(path, **options):
        if path.exists():  # what is left first looks like a damaged checkpoint that is wanted
            assert path.name.endswith("step-000004")
            for name in ("interval.json", "model.safetensors"):
                (path / name).unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path)
    monkeypatch.undo()
    listed = checkpoints.list_checkpoints(tmp_path)
    assert [path.name for path in listed] == ["step-000000", "step-000005"]
    assert checkpoints.resume_point(tmp_path, [0, 5, 10]) == (tmp_path / "step-000005", [])
    clear_temporaries(tmp_path)
    trained(tmp_path)
    assert_same_end(whole, tmp_path)


def test_interrupted_checkpoints_do_not_count_among_those_to_keep(tmp_path, whole, tiny):
    stopped(tmp_path, prepares=asking_at(4))
    shutil.copytree(whole / "step-000005", tmp_path / "step-000005")
    assert checkpoints_to_thin(tmp_path / "step-000005", Keep(last=1), tiny().evaluation) == []
    shutil.copytree(whole / "step-000005", tmp_path / "step-000003")
    kept = checkpoints_to_thin(tmp_path / "step-000005", Keep(last=2), tiny().evaluation)
    assert kept == []  # 3 and 5 are the last two


def test_diverged_training_is_not_kept(tmp_path):
    wild = {"learning_rate": 1e300, "max_grad_norm": None, "warmup_steps": 0}
    signals.listen()
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step 2: training has div"):
        trained(tmp_path, prepares=asking_at(2), **wild)
    assert names(tmp_path) == ["log.jsonl", "step-000000"]


def test_outside_of_training_it_is_raised_at_once():
    before = signal.getsignal(signal.SIGTERM)
    signals.listen(signal.SIGUSR2)
    assert not signals.stop_requested()
    with pytest.raises(
        Stopped, match=r"^stopped on request; run the same command again to resume$"
    ) as one:
        ask()
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
            ask()

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
            ask()
        ask()
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
            ask()
            pytest.fail("goes on")
        with pytest.raises(Stopped), signals.at_once():
            pytest.fail("is begun")
        signals.reset()


@pytest.mark.parametrize("instead", [ValueError("cannot load a model"), None])
def test_at_once_where_a_library_catches_everything(instead):
    signals.listen()
    with pytest.raises(Stopped), signals.at_once():
        try:
            ask()
        except Exception as error:
            if instead:
                raise instead from error


def test_message_names_the_step_in_other_processes_too():
    stop = pickle.loads(pickle.dumps(Stopped(17)))
    assert (stop.step, str(stop)) == (
        17,
        "stopped on request at step 17; run the same command again to resume",
    )
