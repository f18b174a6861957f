"""Learning curves of two arms at matched budgets: steps, tokens, supervised tokens, operations.

Arms differ in how much of a budget a step takes: of one step's tokens, one loss may see all and
another a tenth. Which is better "for the same cost" so depends on what is counted as cost, and a
difference at the last step answers it for steps alone.
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
from ntpctp.statistics import PairedDifference, area_between, difference_at

Axis = Literal["steps", "tokens", "supervised_tokens", "flops"]
AXES: tuple[Axis, ...] = get_args(Axis)

_COLUMNS = {"steps": "step", "tokens": "tokens", "supervised_tokens": "supervised_tokens"}
_PARTS = (0.5, 1.0)
"""Of the largest budget that all runs of both arms reached: where they are compared."""


@dataclass(frozen=True)
class DifferenceAtBudget:
    """A minus B where both have spent the same."""

    budget: float
    difference: PairedDifference


@dataclass(frozen=True)
class MatchedBudget:
    """Two learning curves on one axis of cost, over the range that all runs of both reached."""

    axis: Axis
    seeds: list[int]  # those with a curve in both arms
    first: float | None  # the range, in units of the axis; None: there is none
    last: float | None
    points: list[DifferenceAtBudget]
    area: PairedDifference | None  # mean height of A's curve above B's over the range
    reason: str | None  # why there is no range


def has_curve(row: Any, held_out: Sequence[str]) -> bool:
    """Whether a score is followed over training: a first-rank one of accuracy, on held-out items.

    Args:
        row: with the columns of ``scores.IDENTITY``, and ``higher_is_better``.
        held_out: names of those splits.
    """
    if row["measure"] != "accuracy" or row["split"] not in held_out:
        return False
    if pd.isna(row["higher_is_better"]) or pd.notna(row["strength"]) or pd.notna(row["stratum"]):
        return False
    return stands_alone("accuracy", str(row["split"]), None, str(row["score"]), None)


def read_flops(output: Path) -> dict[str, dict[int, float]]:
    """Return arm -> step -> expected operations; no arm where that is not recorded.

    Raises:
        InputError: if the record is damaged.
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
    """The curves of one score, run by run.

    Args:
        rows: of the score at all checkpoints, with the columns of ``scores.parquet``.
        flops: as ``read_flops`` gives them.
    """

    def __init__(self, rows: pd.DataFrame, flops: Mapping[str, Mapping[int, float]]):
        self._flops = flops
        self._runs: dict[str, dict[int, dict[str, NDArray[np.float64]]]] = {}
        known = rows[rows["value"].notna()].sort_values("step")
        # Columns as arrays, once: pandas takes longer to give one of each of many runs.
        columns = {name: known[name].to_numpy(np.float64) for name in (*_COLUMNS.values(), "value")}
        runs: Mapping[Any, Any] = known.groupby(["arm", "seed"]).indices
        for (arm, seed), places in runs.items():
            run = {name: column[places] for name, column in columns.items()}
            self._runs.setdefault(str(arm), {})[int(seed)] = run
        self._curves: dict[tuple[Axis, str, int], tuple[NDArray[np.float64], ...]] = {}

    def compare(
        self, a: str, b: str, rng: np.random.Generator, *, level: float, largest: float
    ) -> list[MatchedBudget]:
        """Return A minus B on every axis.

        On each, the curves run straight from checkpoint to checkpoint (``difference_at``,
        ``area_between``), from the largest first budget of all runs to the smallest last one:
        nothing is extrapolated. Seeds count that have two checkpoints with a value in both arms. A
        run that has stopped at its target takes no further tokens or operations, only steps.
        Operations are those expected for average rows. No p value is corrected.

        Args:
            a: the first arm.
            b: the second.
            rng: as for ``paired_difference``.
            level: of the intervals.
            largest: as for ``paired_difference``.
        """
        return [self._on(axis, a, b, rng, level, largest) for axis in AXES]

    def _on(
        self, axis: Axis, a: str, b: str, rng: np.random.Generator, level: float, largest: float
    ) -> MatchedBudget:
        if axis == "flops" and (unknown := [arm for arm in (a, b) if arm not in self._flops]):
            reason = f"operations of {' and '.join(unknown)} are not recorded; ntpctp run does so"
            return MatchedBudget(axis, [], None, None, [], None, reason)
        shared = [seed for seed in self._runs.get(a, {}) if seed in self._runs.get(b, {})]
        seeds = [
            s for s in sorted(shared) if all(len(self._curve(axis, x, s)[0]) > 1 for x in (a, b))
        ]
        if not seeds:
            reason = "no seed has two checkpoints with a value in both arms"
            return MatchedBudget(axis, [], None, None, [], None, reason)
        runs = {arm: [self._curve(axis, arm, seed) for seed in seeds] for arm in (a, b)}
        ends = {
            arm: (max(x[0] for x, _ in of_arm), min(x[-1] for x, _ in of_arm))
            for arm, of_arm in runs.items()
        }
        first = max(start for start, _ in ends.values())
        last = min(end for _, end in ends.values())
        if last <= first:
            ranges = ", ".join(f"{arm} {x:g} to {y:g}" for arm, (x, y) in ends.items())
            reason = f"no range that all runs have ({ranges}), and nothing is extrapolated"
            return MatchedBudget(axis, seeds, None, None, [], None, reason)
        # On all corners of all curves, so that interpolating changes none of them.
        corners = np.unique(np.concatenate([x for of_arm in runs.values() for x, _ in of_arm]))
        inside = corners[(corners > first) & (corners < last)]
        grid = np.concatenate([[first], inside, [last]])
        on_a, on_b = (np.stack([np.interp(grid, x, y) for x, y in runs[arm]]) for arm in (a, b))
        at = [part * last for part in _PARTS if part * last >= first]
        found = difference_at(grid, on_a, grid, on_b, at, rng, level=level, largest=largest)
        return MatchedBudget(
            axis,
            seeds,
            float(first),
            float(last),
            [
                DifferenceAtBudget(float(x), difference)
                for x, difference in zip(at, found, strict=True)
            ],
            area_between(grid, on_a, on_b, rng, level=level, largest=largest),
            None,
        )

    def _curve(self, axis: Axis, arm: str, seed: int) -> tuple[NDArray[np.float64], ...]:
        """Return budgets, rising, and values of a run."""
        key = axis, arm, seed
        if key not in self._curves:
            run = self._runs[arm][seed]
            steps, tokens, values = run["step"], run["tokens"], run["value"]
            if axis == "flops":
                budgets = np.array([self._flops[arm].get(int(s), np.nan) for s in steps])
            else:
                budgets = run[_COLUMNS[axis]]
            # Checkpoints behind a stop are the one at the stop again.
            new = _rises(steps if axis == "steps" else tokens) & np.isfinite(budgets)
            budgets, values = budgets[new], values[new]
            rising = _rises(budgets)
            self._curves[key] = budgets[rising], values[rising]
        return self._curves[key]


def _rises(x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each value is above all before it."""
    before = np.maximum.accumulate(np.concatenate([[-np.inf], x[:-1]]))
    return np.asarray(x > before)
