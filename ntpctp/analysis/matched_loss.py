"""Curvature of two arms at equal loss.

The Hessian of a cross-entropy vanishes with the loss: a model that is more certain of the right
answers has a smaller top eigenvalue for that reason alone. If arms end at different losses on the
answer, their last checkpoints differ in flatness and in training progress at once. During training
both arms pass through the same losses; a comparison there is about flatness alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ntpctp._core.files import read_jsonl
from ntpctp._core.layout import RunId, checkpoint_directory, rows_path, stage_directory
from ntpctp.config import Experiment
from ntpctp.statistics import PairedDifference, area_between, difference_at, on_common_grid
from ntpctp.statistics.curves import Curve


class CurvaturePoint(NamedTuple):
    """Loss on the answer (nats per token) and its top eigenvalue at one checkpoint.

    Both are measured by ``flatness`` on the same items; ``value``, the eigenvalue, is None if it
    did not converge.
    """

    step: int
    loss: float
    value: float | None


CurvatureBySeed = Mapping[int, Sequence[CurvaturePoint]]
"""Seed -> checkpoints in the order of training."""


@dataclass(frozen=True)
class MatchedLoss:
    """Log ratio of the top eigenvalues of arm A and arm B at equal loss.

    Attributes:
        a: the first arm.
        b: the second.
        seeds: seeds with a curve in both arms.
        first: largest loss of the common range, nats per token; None without a common range.
        last: smallest loss of the common range.
        last_of: the run that ends at ``last``, "arm, seed k".
        at_last: ln of the ratio at ``last``.
        mean: ln of the ratio, averaged over ln loss from ``first`` to ``last``.
        left_out: seeds and checkpoints that are left out, with reasons.
        reason: why there is no common range.
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
    """Return split -> arm -> seed -> checkpoints, for every run that ``flatness`` measured."""
    points: dict[str, dict[str, dict[int, list[CurvaturePoint]]]] = {}
    for name, arm in experiment.arms.items():
        for seed in experiment.seeds:
            stage = stage_directory(output, RunId(name, seed))
            for step in experiment.evaluation.checkpoint_steps(arm.training.steps):
                path = rows_path(checkpoint_directory(stage, step), "flatness")
                for row in read_jsonl(path) if path.is_file() else ():
                    loss = row.get("mean_loss")
                    if row["loss"] == "answer" and loss is not None:
                        value = row["value"] if row["converged"] else None
                        of_arm = points.setdefault(row["split"], {}).setdefault(name, {})
                        of_arm.setdefault(seed, []).append(CurvaturePoint(step, loss, value))
    return {split: dict(of_split) for split, of_split in points.items()}


def compare_at_matched_loss(
    a: str,
    runs_a: CurvatureBySeed,
    b: str,
    runs_b: CurvatureBySeed,
    rng: np.random.Generator,
    *,
    level: float,
) -> MatchedLoss:
    """Compare two arms at points of training where both have the same loss on the answer.

    Each run gives a curve of ln eigenvalue over -ln loss, linear between checkpoints. Checkpoints
    that do not lower the run's loss or have no positive eigenvalue are left out, and so is step 0,
    where the arms of a seed are the same model. The range is the one that all runs of both arms
    cover: nothing is extrapolated. Ratios are paired by seed, with t intervals over seeds; nothing
    is corrected for the number of comparisons.

    Args:
        a: name of the first arm.
        runs_a: its runs.
        b: name of the second arm.
        runs_b: its runs.
        rng: as for ``paired_difference``.
        level: of the intervals.
    """
    left_out: list[str] = []
    curves: dict[int, tuple[Curve, Curve]] = {}
    for seed in sorted({*runs_a, *runs_b}):
        points = {a: runs_a.get(seed, ()), b: runs_b.get(seed, ())}
        both = _curve(points[a]), _curve(points[b])
        if all(len(x) > 1 for x, _ in both):
            curves[seed] = both
        left_out += _left_out(seed, points, both)
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
    of_a, of_b = ([both[side] for both in curves.values()] for side in (0, 1))
    grid, on_a, on_b = on_common_grid(of_a, of_b, first, last)
    (at_last,) = difference_at(grid, on_a, grid, on_b, [last], rng, level=level)
    mean = area_between(grid, on_a, on_b, rng, level=level)
    ends = math.exp(-first), math.exp(-last)
    return MatchedLoss(a, b, seeds, *ends, last_of, at_last, mean, left_out, None)


def _left_out(
    seed: int, points: Mapping[str, Sequence[CurvaturePoint]], curves: Sequence[Curve]
) -> list[str]:
    """Return notes on a seed with too short a curve, and on checkpoints without an eigenvalue."""
    notes = []
    short = [arm for arm, (x, _) in zip(points, curves, strict=True) if len(x) < 2]
    if short:
        notes.append(
            f"seed {seed}: {' and '.join(short)} without two trained checkpoints of falling loss"
        )
    for arm, run in points.items():
        unusable = [p.step for p in run if p.value is None or p.value <= 0]
        if unusable:
            steps = ", ".join(map(str, unusable))
            notes.append(f"{RunId(arm, seed)}: no positive, converged eigenvalue at step {steps}")
    return notes


def _curve(run: Sequence[CurvaturePoint]) -> Curve:
    """Return -ln loss, increasing, and ln eigenvalue of the usable trained checkpoints."""
    x, y, lowest = [], [], math.inf
    for point in run:
        if point.step == 0 or point.value is None or point.value <= 0:
            continue
        if 0 < point.loss < lowest:
            lowest = point.loss
            x.append(-math.log(point.loss))
            y.append(math.log(point.value))
    return np.array(x), np.array(y)
