"""Curvature of two arms where both have the same loss.

The Hessian of a cross-entropy vanishes with the loss: a model that is surer of the right answers
has a smaller top eigenvalue wherever it lies. Arms that end at different losses on the answer are
so compared twice by their last checkpoints, once in flatness and once in how far they got. Along
training both pass through the same losses, and there the comparison is about flatness alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntpctp import checkpoints
from ntpctp.evaluation import rows_path
from ntpctp.experiment import Experiment
from ntpctp.runs import RunId, stage_directory
from ntpctp.statistics import PairedDifference, area_between, difference_at
from ntpctp.storage import read_jsonl


class Curvature(NamedTuple):
    """What ``flatness`` found at one checkpoint, of the loss on the answers, over the same items.

    ``loss`` is in nats per token; ``value``, the top eigenvalue, is None where it did not converge.
    """

    step: int
    loss: float
    value: float | None


Runs = Mapping[int, Sequence[Curvature]]
"""Seed -> checkpoints in the order of training."""


@dataclass(frozen=True)
class EqualLoss:
    """The top eigenvalue of arm A over that of arm B at equal loss, in logarithms.

    Attributes:
        a: the first arm.
        b: the second.
        seeds: those with a curve in both arms.
        first: largest loss of the common range, nats per token; None: there is none.
        last: smallest loss of the common range.
        at_last: ln of the ratio at ``last``.
        mean: ln of the ratio, on average over ln loss from ``first`` to ``last``.
        reason: why there is no range.
    """

    a: str
    b: str
    seeds: list[int]
    first: float | None
    last: float | None
    at_last: PairedDifference | None
    mean: PairedDifference | None
    reason: str | None


def read_curvature(experiment: Experiment, output: Path) -> dict[str, dict[str, Runs]]:
    """Return split -> arm -> seed -> checkpoints, of every run that ``flatness`` measured."""
    found: dict[str, dict[str, dict[int, list[Curvature]]]] = {}
    for name, arm in experiment.arms.items():
        for seed in experiment.seeds:
            stage = stage_directory(output, RunId(name, seed))
            for step in experiment.evaluation.checkpoint_steps(arm.training.steps):
                path = rows_path(checkpoints.directory_of(stage, step), "flatness")
                for row in read_jsonl(path) if path.is_file() else ():
                    loss = row.get("mean_loss")
                    if row["loss"] == "answer" and loss is not None:
                        value = row["value"] if row["converged"] else None
                        of_arm = found.setdefault(row["split"], {}).setdefault(name, {})
                        of_arm.setdefault(seed, []).append(Curvature(step, loss, value))
    return {split: dict(of_split) for split, of_split in found.items()}


def at_equal_loss(
    a: str, runs_a: Runs, b: str, runs_b: Runs, rng: np.random.Generator, *, level: float
) -> EqualLoss:
    """Compare two arms where both have the same loss on the answer.

    Each run gives a curve of ln eigenvalue over -ln loss, straight between checkpoints; those that
    do not lower the loss of the run, or have no positive eigenvalue, are left out. The range is
    that which all runs of both arms pass: nothing is extrapolated. Ratios are paired by seed, with
    t intervals over seeds, corrected for nothing.

    Args:
        a: name of the first arm.
        runs_a: its runs.
        b: name of the second arm.
        runs_b: its runs.
        rng: as for ``paired_difference``.
        level: of the intervals.
    """
    shared = [seed for seed in runs_a if seed in runs_b]
    curves = {s: (_curve(runs_a[s]), _curve(runs_b[s])) for s in shared}
    seeds = [s for s, both in curves.items() if all(len(x) > 1 for x, _ in both)]
    if not seeds:
        reason = "no seed has two checkpoints of falling loss in both arms"
        return EqualLoss(a, b, [], None, None, None, None, reason)
    both_arms = [curve for seed in seeds for curve in curves[seed]]
    first = max(x[0] for x, _ in both_arms)
    last = min(x[-1] for x, _ in both_arms)
    if last <= first:
        reason = "no loss that all runs of both arms pass, and nothing is extrapolated"
        return EqualLoss(a, b, seeds, None, None, None, None, reason)
    # On all corners of all curves, so that interpolating changes none of them.
    corners = np.unique(np.concatenate([x for x, _ in both_arms]))
    grid = np.concatenate([[first], corners[(corners > first) & (corners < last)], [last]])
    on_a, on_b = (
        np.stack([np.interp(grid, *curves[seed][side]) for seed in seeds]) for side in (0, 1)
    )
    (at_last,) = difference_at(grid, on_a, grid, on_b, [last], rng, level=level)
    mean = area_between(grid, on_a, on_b, rng, level=level)
    return EqualLoss(a, b, seeds, math.exp(-first), math.exp(-last), at_last, mean, None)


def _curve(run: Sequence[Curvature]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return -ln loss, rising, and ln eigenvalue."""
    x, y, lowest = [], [], math.inf
    for point in run:
        if point.value is not None and point.value > 0 and 0 < point.loss < lowest:
            lowest = point.loss
            x.append(-math.log(point.loss))
            y.append(math.log(point.value))
    return np.array(x), np.array(y)
