"""What a stopped training leaves: damaged, killed over, or no longer among the steps to save."""

import shutil

import pytest

from ntpctp._core import files, signals
from ntpctp._core.errors import InputError
from ntpctp._core.files import clear_temporaries
from ntpctp.config import Keep
from ntpctp.models import checkpoints
from ntpctp.runner.callbacks import checkpoints_to_thin
from tests.runner.run_contents import untimed_log
from tests.runner.stopped_training import (
    assert_same_end,
    names,
    stop_training,
    stopping_at,
    train_on,
)


def test_interrupted_checkpoint_that_is_damaged_is_left_out(tmp_path, whole):
    stop_training(tmp_path, prepares=stopping_at(7))
    (tmp_path / "step-000007/model.safetensors").write_bytes(b"damaged")
    warnings, taken = [], []
    again = {"warn": warnings.append, "takes": taken.append}
    assert stop_training(tmp_path, prepares=stopping_at(7), **again) == 7
    train_on(tmp_path, **again)
    assert len(warnings) == 1 and "step-000007/model.safetensors: damaged" in warnings[0]
    assert taken == [5, 6, 7, 8, 9]
    assert_same_end(whole, tmp_path)


def test_damage_to_it_does_not_reach_later_checkpoints(tmp_path, whole):
    stop_training(tmp_path, prepares=stopping_at(4))
    shutil.copytree(whole / "step-000005", tmp_path / "step-000005")  # killed before it was deleted
    (tmp_path / "step-000004/model.safetensors").write_bytes(b"damaged")
    point, refused = checkpoints.resume_point(tmp_path, [0, 5, 10])
    assert point == tmp_path / "step-000005" and len(refused) == 1


@pytest.mark.parametrize("file", ["interval.json", "model.safetensors"])
def test_interrupted_checkpoint_that_no_longer_looks_like_one(tmp_path, whole, file):
    stop_training(tmp_path, prepares=stopping_at(4))
    (tmp_path / "step-000004" / file).unlink()
    warnings, taken = [], []
    train_on(tmp_path, warn=warnings.append, takes=taken.append)
    assert len(warnings) == 1 and f"step-000004/{file}: missing" in warnings[0]
    assert taken == list(range(10))
    assert_same_end(whole, tmp_path)


def test_damage_to_a_checkpoint_that_is_not_wanted_costs_nothing(tmp_path):
    train_on(tmp_path, wanted=[3, 5])
    (tmp_path / "step-000003/model.safetensors").write_bytes(b"damaged")
    shutil.rmtree(tmp_path / "step-000010")
    warnings, taken = [], []
    train_on(tmp_path, warn=warnings.append, takes=taken.append)
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
    train_on(tmp_path / "out", warn=warnings.append, takes=taken.append)
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
        train_on(tmp_path / "out", takes=killed)
    assert [line["step"] for line in untimed_log(tmp_path / "out")] == [3, 5, 6]
    train_on(tmp_path / "out")
    assert_same_end(whole, tmp_path / "out")


def test_interrupted_checkpoint_that_has_come_to_be_wanted(tmp_path):
    train_on(tmp_path / "whole", wanted=[5, 7])
    stop_training(tmp_path / "out", prepares=stopping_at(7))
    taken = []
    train_on(tmp_path / "out", wanted=[5, 7], takes=taken.append)
    assert taken == [5, 6, 7, 8, 9]
    assert_same_end(tmp_path / "whole", tmp_path / "out")


def test_interrupted_checkpoint_behind_one_that_has_come_to_be_wanted(tmp_path):
    train_on(tmp_path / "whole", wanted=[1, 5])
    out = tmp_path / "out"
    stop_training(out, prepares=stopping_at(2))
    assert stop_training(out, wanted=[1, 5], prepares=stopping_at(1)) == 1
    # The log that went with the one at 2 is no more: it has a line at 1 now.
    assert names(out) == ["log.jsonl", "step-000000", "step-000001"]
    train_on(out, wanted=[1, 5])
    assert_same_end(tmp_path / "whole", out)


def test_checkpoints_that_are_no_longer_wanted_stay(tmp_path, whole):
    train_on(tmp_path, wanted=[3, 5])
    for step in ("step-000005", "step-000010"):
        shutil.rmtree(tmp_path / step)
    before = checkpoints.verify(tmp_path / "step-000003")
    assert stop_training(tmp_path, prepares=stopping_at(3)) == 3
    assert not checkpoints.is_interrupted(tmp_path / "step-000003")
    assert stop_training(tmp_path, prepares=stopping_at(4)) == 4
    train_on(tmp_path)
    assert names(tmp_path)[1:] == ["step-000000", "step-000003", "step-000005", "step-000010"]
    assert checkpoints.verify(tmp_path / "step-000003") == before


def test_killed_while_one_is_deleted(tmp_path, whole, monkeypatch):
    stop_training(tmp_path, prepares=stopping_at(4))

    def killed(path, **options):
        if path.exists():  # what is left first looks like a damaged checkpoint that is wanted
            assert path.name.endswith("step-000004")
            for name in ("interval.json", "model.safetensors"):
                (path / name).unlink()
            raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        train_on(tmp_path)
    monkeypatch.undo()
    listed = checkpoints.list_checkpoints(tmp_path)
    assert [path.name for path in listed] == ["step-000000", "step-000005"]
    assert checkpoints.resume_point(tmp_path, [0, 5, 10]) == (tmp_path / "step-000005", [])
    clear_temporaries(tmp_path)
    train_on(tmp_path)
    assert_same_end(whole, tmp_path)


def test_interrupted_checkpoints_do_not_count_among_those_to_keep(tmp_path, whole, tiny):
    stop_training(tmp_path, prepares=stopping_at(4))
    shutil.copytree(whole / "step-000005", tmp_path / "step-000005")
    assert checkpoints_to_thin(tmp_path / "step-000005", Keep(last=1), tiny().evaluation) == []
    shutil.copytree(whole / "step-000005", tmp_path / "step-000003")
    kept = checkpoints_to_thin(tmp_path / "step-000005", Keep(last=2), tiny().evaluation)
    assert kept == []  # 3 and 5 are the last two


def test_diverged_training_is_not_kept(tmp_path):
    wild = {"learning_rate": 1e300, "max_grad_norm": None, "warmup_steps": 0}
    signals.listen()
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step 2: training has div"):
        train_on(tmp_path, prepares=stopping_at(2), **wild)
    assert names(tmp_path) == ["log.jsonl", "step-000000"]
