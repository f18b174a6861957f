"""What the tests of runs share."""

import pytest

from ntpctp._core import signals
from tests.runner.run_contents import untimed_log
from tests.runner.stopped_training import names, train_on


@pytest.fixture(autouse=True)
def reset_signals():
    yield
    signals.reset()


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The directory of a training that nothing disturbs."""
    directory = tmp_path_factory.mktemp("whole")
    train_on(directory)
    assert names(directory) == ["log.jsonl", "step-000000", "step-000005", "step-000010"]
    assert [line["step"] for line in untimed_log(directory)] == [3, 5, 6, 9, 10]
    return directory
