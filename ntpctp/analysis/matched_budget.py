"""Learning curves of two arms at matched budgets: steps, tokens, supervised tokens, FLOPs.

Arms differ in how much of a budget one step takes: one loss may supervise all tokens of a step,
another a tenth. So which arm is better at the same cost depends on how cost is counted, and a
difference at the last step answers that for steps only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ntpctp._core.layout import FLOPS, run_again
from ntpctp._core.records import read_sealed
from ntpctp.analysis.scores import stands_alone
from ntpctp.statistics import PairedDifference, area_between, difference_at, on_common_grid
from ntpctp.statistics.curves import Curve

Axis = Literal["steps", "tokens", "supervised_tokens", "flops"]
AXES: tuple[Axis, ...] = get_args(Axis)

_COLUMNS = {"steps": "step", "tokens": "tokens", "supervised_tokens": "supervised_tokens"}
_FRACTIONS = (0.5, 1.0)
"""Arms are compared at these fractions of the largest budget that all runs of both reached."""


@dataclass(frozen=True)
class DifferenceAtBudget:
    """A minus B at one budget."""

    budget: float
    difference: PairedDifference


@dataclass(frozen=True)
class MatchedBudget:
    """A minus B on one cost axis, over the range of budgets that all runs of both arms cover."""

    axis: Axis
    seeds: list[int]  # seeds with a curve in both arms
    first: float | None  # start of the range, in units of the axis; None: no common range
    last: float | None
    points: list[DifferenceAtBudget]
    area: PairedDifference | None  # mean height of A's curve above B's over the range
    reason: str | None  # why there is no common range


def has_curve(row: Any, held_out: Sequence[str]) -> bool:
    """Return whether a score is compared over training: an accuracy shown first, held out.

    Args:
        row: with the columns of ``scores.IDENTITY``, and ``higher_is_better``.
        held_out: names of the held-out splits.
    """
    if row["measure"] != "accuracy" or row["split"] not in held_out:
        return False
    if pd.isna(row["higher_is_better"]) or pd.notna(row["strength"]) or pd.notna(row["stratum"]):
        return False
    return stands_alone("accuracy", str(row["split"]), None, str(row["score"]), None)


def read_flops(output: Path) -> dict[str, dict[int, float]]:
    """Return arm -> step -> expected FLOPs; arms without a record are missing.

    Raises:
        InputError: if the file is damaged.
    """
    path = output / FLOPS
    if not path.is_file():
        return {}
    remedy = f"{run_again(output)} writes it anew"
    return {
        arm: dict(zip(of_arm["steps"], of_arm["flops"], strict=True))
        for arm, of_arm in read_sealed(path, remedy)["arms"].items()
        if of_arm["flops"] is not None
    }


class LearningCurves:
    """The learning curves of one score, one per run.

    Args:
        rows: of the score at all checkpoints, with the columns of ``scores.parquet``.
        flops: from ``read_flops``.
    """

    def __init__(self, rows: pd.DataFrame, flops: Mapping[str, Mapping[int, float]]):
        self._flops = flops
        self._runs: dict[str, dict[int, dict[str, NDArray[np.float64]]]] = {}
        known = rows[rows["value"].notna()].sort_values("step")
        # Columns become arrays once: selecting runs from a frame is slower.
        columns = {name: known[name].to_numpy(np.float64) for name in (*_COLUMNS.values(), "value")}
        runs: Mapping[Any, Any] = known.groupby(["arm", "seed"]).indices
        for (arm, seed), indices in runs.items():
            run = {name: column[indices] for name, column in columns.items()}
            self._runs.setdefault(str(arm), {})[int(seed)] = run
        self._curves: dict[tuple[Axis, str, int], Curve] = {}

    def compare(
        self, a: str, b: str, rng: np.random.Generator, *, level: float, largest: float
    ) -> list[MatchedBudget]:
        """Return A minus B on every cost axis.

        Curves are linear between checkpoints (``difference_at``, ``area_between``) and compared
        from the largest first budget of all runs to the smallest last one: nothing is extrapolated.
        Only seeds with at least two values in both arms count. A run that stopped at its target
        consumes no further tokens or FLOPs, only steps. FLOPs are those expected for average
        examples. No p value is corrected.

        Args:
            a: the first arm.
            b: the second.
            rng: as for ``paired_difference``.
            level: of the intervals.
            largest: as for ``paired_difference``.
        """
        return [self._compare_on(axis, a, b, rng, level, largest) for axis in AXES]

    def _compare_on(
        self, axis: Axis, a: str, b: str, rng: np.random.Generator, level: float, largest: float
    ) -> MatchedBudget:
        if axis == "flops" and (unknown := [arm for arm in (a, b) if arm not in self._flops]):
            reason = f"operations of {' and '.join(unknown)} are not recorded; ntpctp run does so"
            return MatchedBudget(axis, [], None, None, [], None, reason)
        seeds = self._shared_seeds(axis, a, b)
        if not seeds:
            reason = "no seed has two checkpoints with a value in both arms"
            return MatchedBudget(axis, [], None, None, [], None, reason)
        curves = {arm: [self._curve(axis, arm, seed) for seed in seeds] for arm in (a, b)}
        ends = {
            arm: (max(x[0] for x, _ in of_arm), min(x[-1] for x, _ in of_arm))
            for arm, of_arm in curves.items()
        }
        first = max(start for start, _ in ends.values())
        last = min(end for _, end in ends.values())
        if last <= first:
            ranges = ", ".join(f"{arm} {x:g} to {y:g}" for arm, (x, y) in ends.items())
            reason = f"no range that all runs have ({ranges}), and nothing is extrapolated"
            return MatchedBudget(axis, seeds, None, None, [], None, reason)
        grid, on_a, on_b = on_common_grid(curves[a], curves[b], first, last)
        at = [fraction * last for fraction in _FRACTIONS if fraction * last >= first]
        differences = difference_at(grid, on_a, grid, on_b, at, rng, level=level, largest=largest)
        area = area_between(grid, on_a, on_b, rng, level=level, largest=largest)
        points = [DifferenceAtBudget(float(x), d) for x, d in zip(at, differences, strict=True)]
        return MatchedBudget(axis, seeds, float(first), float(last), points, area, None)

    def _shared_seeds(self, axis: Axis, a: str, b: str) -> list[int]:
        """Return the seeds with at least two points on both arms' curves."""
        shared = [seed for seed in self._runs.get(a, {}) if seed in self._runs.get(b, {})]
        return [
            s for s in sorted(shared) if all(len(self._curve(axis, x, s)[0]) > 1 for x in (a, b))
        ]

    def _curve(self, axis: Axis, arm: str, seed: int) -> Curve:
        """Return budgets, increasing, and values of a run."""
        key = axis, arm, seed
        if key not in self._curves:
            run = self._runs[arm][seed]
            steps, tokens, values = run["step"], run["tokens"], run["value"]
            if axis == "flops":
                budgets = np.array([self._flops[arm].get(int(s), np.nan) for s in steps])
            else:
                budgets = run[_COLUMNS[axis]]
            # Checkpoints after an early stop repeat the one at the stop.
            new = _rises(steps if axis == "steps" else tokens) & np.isfinite(budgets)
            budgets, values = budgets[new], values[new]
            rising = _rises(budgets)
            self._curves[key] = budgets[rising], values[rising]
        return self._curves[key]


def _rises(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return, for each value, whether it exceeds all values before it."""
    before = np.maximum.accumulate(np.concatenate([[-np.inf], x[:-1]]))
    return np.asarray(x > before)
