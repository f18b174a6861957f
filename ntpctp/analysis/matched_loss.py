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

from ntpctp._core.files import read_jsonl
from ntpctp._core.layout import RunId, checkpoint_directory, rows_path, stage_directory
from ntpctp.config import Experiment
from ntpctp.statistics import PairedDifference, area_between, difference_at


class CurvaturePoint(NamedTuple):
    """What ``flatness`` found at one checkpoint, of the loss on the answers, over the same items.

    ``loss`` is in nats per token; ``value``, the top eigenvalue, is None where it did not converge.
    """

    step: int
    loss: float
    value: float | None


CurvatureBySeed = Mapping[int, Sequence[CurvaturePoint]]
"""Seed -> checkpoints in the order of training."""


@dataclass(frozen=True)
class MatchedLoss:
    """The top eigenvalue of arm A over that of arm B at equal loss, in logarithms.

    Attributes:
        a: the first arm.
        b: the second.
        seeds: those with a curve in both arms.
        first: largest loss of the common range, nats per token; None: there is none.
        last: smallest loss of the common range.
        last_of: the run that gets no lower, "arm, seed k".
        at_last: ln of the ratio at ``last``.
        mean: ln of the ratio, on average over ln loss from ``first`` to ``last``.
        left_out: seeds and checkpoints that do not count, and why.
        reason: why there is no range.
    """

    a: str
    b: str
    seeds: list[int]
    first: float | None
    last: float | None
    last_of: str | None
    at_last: PairedDifference | None
    mean: PairedDifference | None
    left_out: list[str]
    reason: str | None


def read_curvature(experiment: Experiment, output: Path) -> dict[str, dict[str, CurvatureBySeed]]:
    """Return split -> arm -> seed -> checkpoints, of every run that ``flatness`` measured."""
    found: dict[str, dict[str, dict[int, list[CurvaturePoint]]]] = {}
    for name, arm in experiment.arms.items():
        for seed in experiment.seeds:
            stage = stage_directory(output, RunId(name, seed))
            for step in experiment.evaluation.checkpoint_steps(arm.training.steps):
                path = rows_path(checkpoint_directory(stage, step), "flatness")
                for row in read_jsonl(path) if path.is_file() else ():
                    loss = row.get("mean_loss")
                    if row["loss"] == "answer" and loss is not None:
                        value = row["value"] if row["converged"] else None
                        of_arm = found.setdefault(row["split"], {}).setdefault(name, {})
                        of_arm.setdefault(seed, []).append(CurvaturePoint(step, loss, value))
    return {split: dict(of_split) for split, of_split in found.items()}


def compare_at_matched_loss(
    a: str,
    runs_a: CurvatureBySeed,
    b: str,
    runs_b: CurvatureBySeed,
    rng: np.random.Generator,
    *,
    level: float,
) -> MatchedLoss:
    """Compare two arms where both have the same loss on the answer.

    Each run gives a curve of ln eigenvalue over -ln loss, straight between checkpoints; those that
    do not lower the loss of the run, or have no positive eigenvalue, are left out, and so is step
    0, where the arms of a seed are one model. The range is that which all runs of both arms pass:
    nothing is extrapolated. Ratios are paired by seed, with t intervals over seeds, corrected for
    nothing.

    Args:
        a: name of the first arm.
        runs_a: its runs.
        b: name of the second arm.
        runs_b: its runs.
        rng: as for ``paired_difference``.
        level: of the intervals.
    """
    left_out: list[str] = []
    curves: dict[int, list[_Curve]] = {}
    for seed in sorted({*runs_a, *runs_b}):
        both = [_curve(runs.get(seed, [])) for runs in (runs_a, runs_b)]
        short = [arm for arm, (x, _) in zip((a, b), both, strict=True) if len(x) < 2]
        if short:
            why = "without two trained checkpoints of falling loss"
            left_out.append(f"seed {seed}: {' and '.join(short)} {why}")
        else:
            curves[seed] = both
        for arm, runs in ((a, runs_a), (b, runs_b)):
            unknown = [p.step for p in runs.get(seed, []) if p.value is None or p.value <= 0]
            if unknown:
                steps = ", ".join(map(str, unknown))
                left_out.append(
                    f"{RunId(arm, seed)}: no positive, converged eigenvalue at step {steps}"
                )
    seeds = list(curves)
    if not seeds:
        reason = "no seed has two trained checkpoints of falling loss in both arms"
        return MatchedLoss(a, b, [], None, None, None, None, None, left_out, reason)
    first = max(x[0] for both in curves.values() for x, _ in both)
    last, last_of = min(
        (float(x[-1]), str(RunId(arm, seed)))
        for seed, both in curves.items()
        for arm, (x, _) in zip((a, b), both, strict=True)
    )
    if last <= first:
        reason = (
            f"no loss that all runs of both arms pass once trained ({last_of} ends at "
            f"{math.exp(-last):.3g} nats), and nothing is extrapolated"
        )
        return MatchedLoss(a, b, seeds, None, None, last_of, None, None, left_out, reason)
    # On all corners of all curves, so that interpolating changes none of them.
    corners = np.unique(np.concatenate([x for both in curves.values() for x, _ in both]))
    grid = np.concatenate([[first], corners[(corners > first) & (corners < last)], [last]])
    on_a, on_b = (
        np.stack([np.interp(grid, *both[side]) for both in curves.values()]) for side in (0, 1)
    )
    (at_last,) = difference_at(grid, on_a, grid, on_b, [last], rng, level=level)
    mean = area_between(grid, on_a, on_b, rng, level=level)
    ends = math.exp(-first), math.exp(-last)
    return MatchedLoss(a, b, seeds, *ends, last_of, at_last, mean, left_out, None)


_Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


def _curve(run: Sequence[CurvaturePoint]) -> _Curve:
    """Return -ln loss, rising, and ln eigenvalue, of trained checkpoints."""
    x, y, lowest = [], [], math.inf
    for point in run:
        if point.step == 0 or point.value is None or point.value <= 0:
            continue
        if 0 < point.loss < lowest:
            lowest = point.loss
            x.append(-math.log(point.loss))
            y.append(math.log(point.value))
    return np.array(x), np.array(y)
