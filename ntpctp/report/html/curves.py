"""Scores over steps or strengths: every seed, the mean of each arm and its interval."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from ntpctp.report.html.wording import is_share, percent

MIN_SEEDS = 3
"""Two seeds give an interval 13 standard errors wide, which would hide the curves."""


@dataclass(frozen=True)
class Point:
    """One arm at one position of the axis."""

    x: float
    values: dict[int, float]  # seed -> value
    bounds: dict[int, float]  # seed -> bound of the numerical error; without unknown ones
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Curve:
    """One arm along the axis."""

    arm: str
    points: list[Point]


def curves(
    scores: pd.DataFrame,
    arms: Iterable[str],
    x: Literal["step", "strength", "position"],
    level: float,
) -> list[Curve]:
    """Return the curve of each arm that has a value, from the rows of one score on one split.

    ``x`` is the column of the axis, ``level`` that of the intervals.
    """
    unit = str(scores["unit"].iloc[0]) if len(scores) else ""
    # Plain Python: thousands of small pandas groups would take seconds.
    columns = ("arm", x, "seed", "value", "error_bound")
    rows = sorted(zip(*(scores[c].tolist() for c in columns), strict=True), key=lambda r: r[:3])
    by_arm: dict[str, dict[float, list[tuple[int, float, float]]]] = {}
    for arm, position, *entry in rows:
        if not math.isnan(entry[1]):
            bound = math.nan if entry[2] is None else float(entry[2])
            of_arm = by_arm.setdefault(str(arm), {})
            of_arm.setdefault(float(position), []).append((int(entry[0]), float(entry[1]), bound))
    return [
        Curve(arm, [_point(position, runs, unit, level) for position, runs in by_arm[arm].items()])
        for arm in arms
        if arm in by_arm
    ]


def mean_interval(
    values: Iterable[float], unit: str, level: float
) -> tuple[float | None, float | None]:
    """Return the t interval of the mean over seeds, or two ``None`` below ``MIN_SEEDS``.

    mean -+ t(S - 1) s / sqrt(S) with the sample standard deviation s of S seeds. The interval of a
    share is cut at 0 and 1.
    """
    x = np.array(list(values), np.float64)
    if len(x) < MIN_SEEDS:
        return None, None
    half_width = stats.t.ppf((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    low, high = float(x.mean() - half_width), float(x.mean() + half_width)
    return (max(low, 0.0), min(high, 1.0)) if is_share(unit) else (low, high)


def band_words(num_seeds: int, level: float) -> str:
    """Return how to read lines and band of a figure with ``num_seeds`` seeds."""
    if num_seeds == 1:
        return "One seed: the line is that seed; the spread over seeds is unknown."
    if num_seeds < MIN_SEEDS:
        return (
            f"Thin lines: seeds; thick line: their mean. No band: {num_seeds} seeds are too few "
            "for an interval of the mean."
        )
    return (
        f"Thin lines: seeds; thick line: their mean; band: pointwise {percent(level)} t interval "
        f"of the mean over {num_seeds} seeds. A new seed may well lie outside the band."
    )


def _point(x: float, runs: Sequence[tuple[int, float, float]], unit: str, level: float) -> Point:
    """Return the point of (seed, value, error bound), the bound NaN where there is none."""
    values = {seed: value for seed, value, _ in runs}
    bounds = {seed: bound for seed, _, bound in runs if not math.isnan(bound)}
    low, high = mean_interval(values.values(), unit, level)
    return Point(x, values, bounds, float(np.mean(list(values.values()))), low, high)
