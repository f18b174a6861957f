"""A small training that is stopped by SIGTERM, and the comparison with one that is not."""

import signal

import pytest
from accelerate import Accelerator

from ntpctp._core import signals
from ntpctp._core.signals import Stopped
from ntpctp.models import checkpoints
from ntpctp.objectives import CTP
from ntpctp.objectives.dataset import SupervisedExamples
from ntpctp.training import TrainingOptions
from ntpctp.training.loop import TrainingLoop
from tests.runner.run_contents import untimed_log
from tests.training.test_training import OPTIONS, TOKENIZER, model_of, uneven_rows

CHECKPOINT_STEPS = [5]  # beside 0 and 10; the log has lines at 3, 5, 6, 9, 10


def request_stop():
    signal.raise_signal(signal.SIGTERM)


class RecordedExamples(SupervisedExamples):
    """Calls ``prepares`` with the step whose batch is being collated."""

    step, prepares = None, staticmethod(lambda step: None)

    def batch(self, indices, step, **options):
        self.step = step
        self.prepares(step)
        return super().batch(indices, step, **options)


def train_on(
    directory,
    *,
    prepares=lambda step: None,
    takes=lambda step: None,
    wanted=CHECKPOINT_STEPS,
    at_checkpoint=None,
    warn=lambda message: None,
    **changes,
):
    """Train, from the last checkpoint if there is one.

    ``prepares`` is called with each step before its batch is collated, ``takes`` before its forward
    pass.
    """
    # To resume has to replace the weights, hence another seed.
    resumes = (directory / "step-000000").exists()
    model = model_of(seed=77 if resumes else 0, dropout=0.3)
    data = RecordedExamples(uneven_rows(), CTP())
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


def stopping_at(step):
    return lambda at: request_stop() if at == step else None


def stop_training(directory, **options):
    """Train until a request stops it, which has to happen; return the step it reports."""
    signals.listen()
    try:
        with pytest.raises(Stopped) as caught:
            train_on(directory, **options)
    finally:
        signals.reset()
    return caught.value.step


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def assert_same_end(whole, other):
    """Compare all files of all checkpoints, and the logs, without what a clock decides."""
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
    assert untimed_log(other) == untimed_log(whole)
