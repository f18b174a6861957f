"""Scores of a whole run, computed from its checkpoints: steps to a target, mean, forgetting."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import pandas as pd

from ntpctp.config import Experiment
from ntpctp.data.tasks import Mixture, Task
from ntpctp.measures import Score
from ntpctp.statistics import times_to_target

LEARNING = "learning"
"""The value of column ``measure`` for these scores."""

_CURVE = ["arm", "seed", "split", "score"]


def whole_run_scores(
    frame: pd.DataFrame, experiment: Experiment
) -> dict[tuple[str, int], list[Score]]:
    r"""Return the scores of whole training runs, computed from the scores of their checkpoints.

    They exist for every score with a target (``comparison.targets``) and a better direction, on
    every held-out split where at least two checkpoints, including the last, were measured:

    * ``steps_to_<score>``: optimizer steps until the score reaches the target, interpolated
      linearly between the first checkpoint that reaches it and the one before; ``error_bound`` is
      the distance to the farther of the two. Null if the target is not reached: more steps might
      reach it, so arms with such seeds have no mean and no difference, but a log-rank test of the
      times. A difference smaller than the sum of the arms' mean error bounds gets no verdict:
      checkpoints are too far apart to tell.
    * ``mean_<score>``: mean over the steps of training (trapezoidal rule over at least three
      checkpoints), the area under the learning curve divided by its length; ``error_bound`` is the
      change when every other checkpoint is left out.
    * ``forgotten_<score>``: value at the start of this stage minus value at its end (the reverse if
      lower is better), on splits of tasks that this stage does not train on: performance learned in
      earlier stages and lost.

    All of them depend on the checkpoints: compare arms with the same ``evaluation.every``.

    Args:
        frame: scores of any number of runs, with the columns of ``scores.parquet``.
        experiment: gives the targets and the task.
    """
    chosen = frame[
        frame["score"].isin(experiment.comparison.targets)
        & frame["split"].isin(experiment.task.evaluation_splits)
        & frame["strength"].isna()
        & frame["stratum"].isna()
        & frame["value"].notna()
    ].sort_values("step", kind="stable")
    untrained = untrained_splits(experiment.task)
    of_runs: dict[tuple[str, int], list[Score]] = {}
    for key, curve in chosen.groupby(_CURVE, sort=False):
        arm, seed, split, name = cast(tuple[str, int, str, str], key)
        last = experiment.arms[arm].training.steps
        # The mean of a curve that ends early would not be comparable.
        ended = len(curve) > 1 and curve["step"].iloc[-1] >= last
        if ended and curve["higher_is_better"].notna().all():
            scores = of_runs.setdefault((arm, int(seed)), [])
            target = experiment.comparison.targets[str(name)]
            scores += _of_curve(curve, str(split), str(name), target)
            if split in untrained:
                scores.append(_forgotten(curve, str(name)))
    return of_runs


def _forgotten(curve: pd.DataFrame, name: str) -> Score:
    values = curve["value"].to_numpy(np.float64)
    higher = bool(curve["higher_is_better"].iloc[0])
    lost = values[0] - values[-1] if higher else values[-1] - values[0]
    return _score(curve, f"forgotten_{name}", float(lost), False)


def untrained_splits(task: Task) -> frozenset[str]:
    """Return the splits of a mixture's parts that are measured but not trained on."""
    if not isinstance(task, Mixture):
        return frozenset()
    return frozenset(
        f"{name}.{split}"
        for name, part in task.parts.items()
        if part.measured and not part.weight
        for split in part.task.evaluation_splits
    )


def _of_curve(curve: pd.DataFrame, split: str, name: str, target: float) -> Iterator[Score]:
    """Yield the steps to the target and, from three checkpoints on, the mean of one curve."""
    steps = curve["step"].to_numpy(np.float64)
    values = curve["value"].to_numpy(np.float64)
    higher = bool(curve["higher_is_better"].iloc[0])
    times = times_to_target(steps, values[None], target, higher_is_better=higher)
    reached, time = bool(times.reached[0]), float(times.times[0])
    # The crossing lies between the last checkpoint before the target and the first one at it.
    at_target = values >= target if higher else values <= target
    after = int(at_target.argmax())
    before, after = steps[max(after - 1, 0)], steps[after]
    yield Score(
        LEARNING,
        split,
        f"steps_to_{name}",
        time if reached else None,
        "steps",
        int(curve["count"].iloc[0]),
        False,
        error_bound=float(max(time - before, after - time)) if reached else None,
        reason=None if reached else f"{target:g} is not reached within {steps[-1]:g} steps",
        censored=not reached,
    )
    if len(steps) > 2:
        coarse = sorted({*range(0, len(steps), 2), len(steps) - 1})
        mean, rough = (
            float(np.trapezoid(values[points], steps[points]) / (steps[-1] - steps[0]))
            for points in (list(range(len(steps))), coarse)
        )
        yield replace(_score(curve, f"mean_{name}", mean, higher), error_bound=abs(mean - rough))


def _score(curve: pd.DataFrame, name: str, value: float, higher_is_better: bool) -> Score:
    row = curve.iloc[0]
    return Score(
        LEARNING,
        str(row["split"]),
        name,
        value,
        str(row["unit"]),
        int(row["count"]),
        higher_is_better,
    )
