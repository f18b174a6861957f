"""Whole learning curves: area between them, differences at matched budgets, time to a target.

Shape letters: S seeds, T checkpoints. A budget is whatever the curves are matched on: steps,
tokens, supervised tokens or FLOPs. Between two checkpoints a curve is the straight line.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp.statistics import _checks
from ntpctp.statistics._checks import FloatArray
from ntpctp.statistics.difference import PairedDifference, paired_difference


def area_between(
    budgets: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    largest: float = math.inf,
) -> PairedDifference:
    """Return the mean height of curve A above curve B, in the unit of the score.

    (1 / (x_T - x_1)) integral of (a(x) - b(x)) dx by the trapezoidal rule, which is exact for
    straight lines between checkpoints, per seed, then ``paired_difference`` over the seeds. Areas
    above and below cancel. Multiply by x_T - x_1 for the area itself.

    Args:
        budgets: float, shape (T,), increasing, common to both arms, T >= 2.
        a: scores of A at the checkpoints, shape (S, T).
        b: scores of B, shape (S, T), the same seeds.
        rng: as for ``paired_difference``.
        level: nominal coverage, in (0, 1).
        largest: as for ``paired_difference``.

    Raises:
        InputError: if shapes do not fit, budgets do not increase or a value is not finite.
    """
    scores_a, scores_b = _checks.paired(a, b)
    x = _budgets(budgets, scores_a, "budgets")[0]
    if len(x) < 2:
        raise InputError("budgets: an area needs at least two checkpoints, got 1")
    width = x[-1] - x[0]
    mean_a, mean_b = np.trapezoid(scores_a, x) / width, np.trapezoid(scores_b, x) / width
    return paired_difference(mean_a, mean_b, rng, level=level, largest=largest)


def difference_at(
    budgets_a: ArrayLike,
    a: ArrayLike,
    budgets_b: ArrayLike,
    b: ArrayLike,
    at: ArrayLike,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    largest: float = math.inf,
) -> tuple[PairedDifference, ...]:
    """Return A minus B at matched budgets, such as equal supervised tokens.

    Each seed's curve is interpolated linearly between its two neighbouring checkpoints, which
    for a curve that bends is off by up to max |curvature| gap^2 / 8; nothing is extrapolated.

    Args:
        budgets_a: float, shape (T_a,), or (S, T_a) where seeds differ; increasing.
        a: scores of A, shape (S, T_a).
        budgets_b: likewise for B, T_b may differ.
        b: scores of B, shape (S, T_b), the same seeds.
        at: budgets to compare at, shape (K,).
        rng: as for ``paired_difference``.
        level: nominal coverage, in (0, 1).
        largest: as for ``paired_difference``.

    Returns:
        One difference over seeds for each entry of ``at``.

    Raises:
        InputError: if shapes do not fit, or an entry of ``at`` lies outside what every seed of
            both arms has reached; the message names the common range.
    """
    curves = [_checks.finite(a, "a", 2), _checks.finite(b, "b", 2)]
    axes = [
        _budgets(budgets_a, curves[0], "budgets_a"),
        _budgets(budgets_b, curves[1], "budgets_b"),
    ]
    points = _checks.finite(at, "at", 1)
    first = max(float(x[:, 0].max()) for x in axes)
    last = min(float(x[:, -1].min()) for x in axes)
    if points.min() < first or points.max() > last:
        raise InputError(
            f"at: budgets {points.min():g} to {points.max():g} asked for, but all seeds of both "
            f"arms have checkpoints only from {first:g} to {last:g}"
        )
    values = [
        np.stack([np.interp(points, x, y) for x, y in zip(axis, curve, strict=True)])
        for axis, curve in zip(axes, curves, strict=True)
    ]
    return tuple(
        paired_difference(values[0][:, k], values[1][:, k], rng, level=level, largest=largest)
        for k in range(len(points))
    )


@dataclass(frozen=True)
class TimesToTarget:
    """When each seed first reached the target, in the unit of the budget."""

    times: FloatArray
    """(S,): first crossing; where it was never reached, the last budget that was looked at."""
    reached: NDArray[np.bool_]
    """(S,): False where the time is censored: the true one is larger."""
    median: float | None
    """Kaplan-Meier: the first time by which at least half of the seeds are expected to be there;
    ``None`` if that does not happen within the budget."""
    num_at_start: int
    """Seeds that were there at their first checkpoint; their true time is that or earlier."""


@dataclass(frozen=True)
class TimeComparison:
    """Times to the target of two arms and the log-rank test that they are alike."""

    a: TimesToTarget
    b: TimesToTarget
    p_value: float | None
    reason: str | None


def times_to_target(
    budgets: ArrayLike, curves: ArrayLike, target: float, *, higher_is_better: bool
) -> TimesToTarget:
    """Return for each seed the budget at which its curve first reaches the target.

    The crossing is interpolated linearly between the checkpoint before and the first one at the
    target or better. A seed that never gets there is right-censored at its last budget, not left
    out. The median is that of the Kaplan-Meier (1958) estimate of the share not yet there.

    Args:
        budgets: float, shape (T,) or (S, T), increasing.
        curves: float, shape (S, T).
        target: in the unit of the curves.
        higher_is_better: reached means >= ``target``, otherwise <=.

    Raises:
        InputError: if shapes do not fit, budgets do not increase or a value is not finite.
    """
    y = _checks.finite(curves, "curves", 2)
    x = _budgets(budgets, y, "budgets")
    # The height above the target, so that reached means >= 0 in both directions.
    height = y - target if higher_is_better else target - y
    there: NDArray[np.bool_] = height >= 0
    reached: NDArray[np.bool_] = np.any(there, axis=1)
    seeds = np.arange(len(y))
    after = np.where(reached, there.argmax(axis=1), 0)
    before = np.maximum(after - 1, 0)
    rise = height[seeds, after] - height[seeds, before]
    share = np.divide(-height[seeds, before], rise, out=np.zeros(len(y)), where=after > before)
    crossing = x[seeds, before] + share * (x[seeds, after] - x[seeds, before])
    times = np.where(reached, crossing, x[:, -1])
    return TimesToTarget(times, reached, _median(times, reached), int(there[:, 0].sum()))


def censored_times(times: ArrayLike, reached: ArrayLike) -> TimesToTarget:
    """Return the same where the times are known already.

    Args:
        times: shape (S,); where the target was not reached, the last budget that was looked at.
        reached: bool, shape (S,).

    Raises:
        InputError: if a time is not finite.
    """
    x = _checks.finite(times, "times", 1)
    there = np.asarray(reached, np.bool_)
    return TimesToTarget(x, there, _median(x, there), int((there & (x <= 0)).sum()))


def compare_times_to_target(a: TimesToTarget, b: TimesToTarget) -> TimeComparison:
    """Return the two-sided log-rank test (Mantel 1966) that both arms are equally fast.

    ``scipy.stats.logrank``; not paired by seed, and asymptotic. Measured false-positive rate at
    level 0.05 in percent, exponential times, 4,000 and 2,000 simulations (-+ 0.8 and -+ 1):

        seeds an arm                       3      5     10
        half of the seeds censored       6.5    6.5    4.6
        none censored                   11.8    6.8    7.5

    Args:
        a: from ``times_to_target``.
        b: likewise, in the same unit.

    Returns:
        The comparison; without a p value, and with the reason, if an arm has a single seed, no seed
        of either arm reached the target, or the arms never run side by side when one does.
    """
    reason = None
    if min(len(a.times), len(b.times)) < 2:
        reason = "one seed: times cannot be compared"
    elif not (a.reached.any() or b.reached.any()):
        reason = "no seed of either arm reached the target"
    else:
        reason = _why_no_test(a, b)
    if reason is not None:
        return TimeComparison(a, b, None, reason)
    test = stats.logrank(_censored(a.times, a.reached), _censored(b.times, b.reached))
    return TimeComparison(a, b, float(test.pvalue), None)


def _why_no_test(a: TimesToTarget, b: TimesToTarget) -> str | None:
    """Return why the log-rank test has no variance, so no p value; None where it has one.

    At each time at which seeds get there, the test compares the arms' shares of those with their
    shares of the seeds still on the way: that says nothing where only one arm is on the way, as
    when the other one ended earlier, or where all get there at once.
    """
    together = False
    for time in np.unique(np.concatenate([a.times[a.reached], b.times[b.reached]])):
        on_the_way = [int((arm.times >= time).sum()) for arm in (a, b)]
        arriving = sum(int(((arm.times == time) & arm.reached).sum()) for arm in (a, b))
        if min(on_the_way) > 0:
            if arriving < sum(on_the_way):
                return None
            together = True
    if together:
        return "all seeds that were on the way reached the target at the same time"
    return "no seed reached the target while the other arm was still being trained"


def _censored(times: FloatArray, reached: NDArray[np.bool_]) -> stats.CensoredData:
    return stats.CensoredData.right_censored(times, ~reached)


def _median(times: FloatArray, reached: NDArray[np.bool_]) -> float | None:
    if not reached.any():
        return None
    survival = stats.ecdf(_censored(times, reached)).sf
    # A product of fractions such as 3/4 * 2/3 may miss 1/2 by a rounding error.
    half = survival.probabilities <= 0.5 + 1e-12
    return float(survival.quantiles[np.argmax(half)]) if half.any() else None


def _budgets(budgets: ArrayLike, curves: FloatArray, name: str) -> FloatArray:
    """Return the budgets of each seed, (S, T), after checking them against ``curves`` (S, T)."""
    x = _checks.finite(budgets, name, 1, 2)
    if curves.ndim != 2 or x.shape not in (curves.shape, curves.shape[1:]):
        raise InputError(
            f"{name}: expected one budget a checkpoint of curves {curves.shape}, got {x.shape}"
        )
    if (np.diff(x) <= 0).any():
        raise InputError(f"{name}: expected budgets that increase from checkpoint to checkpoint")
    return np.broadcast_to(x, curves.shape)
