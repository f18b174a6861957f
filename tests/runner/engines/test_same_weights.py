"""One experiment, executed in every way: the same weights and scores, bit for bit."""

import pytest

from ntpctp._core.layout import RunId
from ntpctp.config import experiment_of
from ntpctp.runner.engines import Local, RayCluster, Slurm
from ntpctp.runner.experiment import run_experiment
from ntpctp.runner.prepare import prepare
from ntpctp.runner.run import execute
from tests.conftest import tiny_content
from tests.runner.run_contents import contents

CONTENT = tiny_content(
    model={"family": "gpt2", "layers": 1, "width": 16, "heads": 2, "dtype": "float64"},
    evaluation={"every": 4, "measures": ["accuracy"]},
)
RUNS = [RunId(arm, seed) for arm in ("ntp", "ctp") for seed in (0, 1)]


@pytest.fixture(scope="module")
def in_this_process(tmp_path_factory):
    experiment = experiment_of(CONTENT, "tiny")
    output = tmp_path_factory.mktemp("one") / "tiny"
    data = prepare(experiment)
    for run in RUNS:
        execute(experiment, data, run, output)
    return contents(output)


@pytest.mark.parametrize("name", ["pool", "ray", "slurm"])
@pytest.mark.slow
def test_the_same_everywhere(in_this_process, tmp_path, name):
    output = tmp_path / "tiny"
    engine = {
        "pool": Local(2),
        "ray": RayCluster(),
        "slurm": Slurm(tmp_path / "tiny/.slurm", "local", poll_seconds=0.2),
    }[name]
    # Each job of Slurm is an interpreter of its own, so more of them would show nothing new.
    runs = RUNS[::2] if name == "slurm" else RUNS
    seeds = len(runs) // 2
    experiment = experiment_of({**CONTENT, "seeds": seeds}, "tiny")
    told = []
    assert not run_experiment(experiment, output, engine=engine, on_event=told.append)
    here = contents(output)
    # A log; items, scores, weights, optimizer of three checkpoints.
    assert len(here) == 2 * seeds * (1 + 3 * 4)
    assert here == {path: in_this_process[path] for path in here}
    for run in runs:
        kinds = [event.kind for event in told if event.run == run]
        assert kinds.count("done") == 1 and kinds[-1] == "done"
        steps = [event.done for event in told if event.run == run and event.kind == "training"]
        assert steps == [2, 4, 6, 8]
