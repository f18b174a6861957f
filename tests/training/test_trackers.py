"""Trackers get what the log gets; TensorBoard's own reader reads it."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ntpctp._core.errors import InputError
from ntpctp._core.layout import RunId, stage_directory
from ntpctp.runner.engines import Local
from ntpctp.runner.experiment import run_experiment
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import accelerator_for, train_run
from ntpctp.runner.train_one import train_one
from ntpctp.training.trackers import DIRECTORY, check_trackers


def scalars(directory):
    (path,) = (directory / DIRECTORY).rglob("events.out.tfevents.*.0")
    events = EventAccumulator(str(path)).Reload()
    return {
        name: {event.step: event.value for event in events.Scalars(name)}
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_gets_every_line_of_the_log(tiny, tmp_path):
    experiment, run = tiny(trackers=["tensorboard"]), RunId("ctp", 1)
    data = prepare(experiment)
    for _ in range(2):  # the second time there is nothing to train, and nothing to send
        accelerator = accelerator_for(experiment, run, tmp_path)
        train_run(experiment, data, run, tmp_path, accelerator)
    stage = stage_directory(tmp_path, run)
    found = scalars(stage.parent)
    lines = [json.loads(line) for line in (stage / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    for name in ("loss", "learning_rate", "gradient_norm", "tokens", "supervised_tokens"):
        assert found[name] == pytest.approx({line["step"]: line[name] for line in lines})
    (settings,) = (stage.parent / DIRECTORY).rglob("hparams.yml")
    text = settings.read_text()
    assert "arm: ctp" in text and "training.batch_size: 8" in text and "task.digits: 1" in text


def test_the_weights_do_not_depend_on_it(tiny, tmp_path):
    found = []
    for trackers in ([], ["tensorboard"]):
        experiment, run = tiny(trackers=trackers), RunId("ntp", 0)
        output = tmp_path / str(len(trackers))
        accelerator = accelerator_for(experiment, run, output)
        train_run(experiment, prepare(experiment), run, output, accelerator)
        directory = stage_directory(output, run)
        found.append((directory / "step-000008/model.safetensors").read_bytes())
        assert (directory.parent / DIRECTORY).exists() == bool(trackers)
    assert found[0] == found[1]


def test_a_library_that_is_missing_is_said_before_anything_is_written(
    tiny, tiny_file, tmp_path, monkeypatch
):
    monkeypatch.setattr("ntpctp.training.trackers.get_available_trackers", list)
    check_trackers([])
    output = tmp_path / "out"
    experiment = tiny(trackers=["wandb"])
    with pytest.raises(InputError, match="trackers: wandb is not installed; pip install wandb"):
        run_experiment(experiment, output, engine=Local(1), on_event=print)
    with pytest.raises(InputError, match="trackers: wandb is not installed"):
        train_one(tiny_file(trackers=["wandb"]), (), "ntp", 0, output)
    assert not output.exists()
