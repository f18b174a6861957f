"""Scores of a whole run, from those of its checkpoints: how soon it learned, what it forgot."""

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
"""What stands in the column ``measure`` of these scores."""

_CURVE = ["arm", "seed", "split", "score"]


def whole_run_scores(
    frame: pd.DataFrame, experiment: Experiment
) -> dict[tuple[str, int], list[Score]]:
    r"""Return the scores of whole runs, by arm and seed, from those of their checkpoints.

    For every score that has a target (``comparison.targets``) and a better direction, and every
    held-out split on which it is measured at two checkpoints or more, the last step among them:

    * ``steps_to_<score>``: optimizer steps until the score is at the target, interpolated linearly
      between the checkpoint before and the first one at the target; ``error_bound`` is how far the
      farther of the two lies. Null where it is not reached:
      more steps might reach it, so arms with such seeds have no mean and no difference, but a
      log-rank test of the times. A difference within the sum of the arms' mean error bounds gets
      no verdict: it lies between the checkpoints.
    * ``mean_<score>``: mean over the steps of training (trapezoidal rule over the checkpoints, at
      least three), the area under the learning curve divided by its length; ``error_bound`` is what
      leaving out every other checkpoint changes.
    * ``forgotten_<score>``: value at the start of this stage minus value at its end (the other way
      round where lower is better), on splits of tasks that this stage does not train on: what was
      learned in earlier stages and lost.

    All depend on which checkpoints there are: compare arms with the same ``evaluation.every``.

    Args:
        frame: of any number of runs, with the columns of ``scores.parquet``.
        experiment: its targets and its task.
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
        # A curve that ends early would be another run's average.
        ended = len(curve) > 1 and curve["step"].iloc[-1] >= last
        if ended and curve["higher_is_better"].notna().all():
            found = of_runs.setdefault((arm, int(seed)), [])
            target = experiment.comparison.targets[str(name)]
            found += _of_curve(curve, str(split), str(name), target)
            if split in untrained:
                values = curve["value"].to_numpy(np.float64)
                higher = bool(curve["higher_is_better"].iloc[0])
                lost = values[0] - values[-1] if higher else values[-1] - values[0]
                found.append(_score(curve, f"forgotten_{name}", float(lost), False))
    return of_runs


def untrained_splits(task: Task) -> frozenset[str]:
    """Return the splits of the parts of a mixture that are measured, but not trained on."""
    if not isinstance(task, Mixture):
        return frozenset()
    return frozenset(
        f"{name}.{split}"
        for name, part in task.parts.items()
        if part.measured and not part.weight
        for split in part.task.evaluation_splits
    )


def _of_curve(curve: pd.DataFrame, split: str, name: str, target: float) -> Iterator[Score]:
    steps = curve["step"].to_numpy(np.float64)
    values = curve["value"].to_numpy(np.float64)
    higher = bool(curve["higher_is_better"].iloc[0])
    times = times_to_target(steps, values[None], target, higher_is_better=higher)
    reached, time = bool(times.reached[0]), float(times.times[0])
    # It lies behind the last checkpoint below the target, and not behind the next one.
    there = values >= target if higher else values <= target
    after = int(there.argmax())
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
