"""Experiments with stages: all of them are checked before the first is trained."""

from collections.abc import Sequence
from pathlib import Path

from ntpctp.config.stages import Stages
from ntpctp.data.example import Example
from ntpctp.data.leakage import check_unseen
from ntpctp.runner.budget import with_steps
from ntpctp.runner.prepare import encoded_beside, prepare


def prepare_stages(stages: Stages, output: Path) -> Stages:
    """Check data and objectives of every stage; costs reading and encoding all data.

    Returns:
        The stages with a context that holds the longest example of all of them, and with the steps
        that follow from budgets.

    Raises:
        InputError: as ``prepare``, or if a held-out example was trained on in an earlier stage.
    """
    longest = 0
    trained: dict[str, Sequence[Example]] = {}
    for stage, experiment in stages.from_scratch().items():
        cache = encoded_beside(output / stage)
        data = prepare(experiment, cache)
        # ``prepare`` has compared each stage's held-out splits with its own training split.
        held_out = {name: data.splits[name].examples for name in data.evaluation_splits}
        check_unseen(trained, held_out)
        trained[f"train of {stage}"] = data.splits["train"].examples
        longest = max(longest, data.longest)
        stages = stages.with_steps(stage, with_steps(experiment, cache).arms)
    return stages.with_context(-(-longest // 8) * 8)
