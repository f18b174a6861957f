"""Robustness curves: from answers under a perturbation of rising strength to rows and scores.

Shape letters: R = draws of the perturbation, N = items, K = strengths.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntpctp._core.rng import generator
from ntpctp.measures.measure import ItemResult, Score
from ntpctp.measures.scoring import mean_score

_RESAMPLES = 1000


@dataclass(frozen=True, eq=False, kw_only=True)
class RobustnessCurve:
    """Which items are answered correctly at each strength, and the scores computed from it.

    ``rows`` and ``scores`` belong together: a score that is a mean over items names the field of
    the rows that it averages. With ``<kind>`` as given and A the accuracy:

    * ``accuracy_under_<kind>`` at each strength: share of draws in which an item is right, mean
      over the items.
    * ``worst_of_draws_under_<kind>`` at each strength: share of the items that are right in every
      draw. Not given for a single draw, where it is the accuracy.
    * ``flip_rate_under_<kind>`` at each strength above 0: share of (item, draw) that is right where
      it was wrong without perturbation, or wrong where it was right. Descriptive: a model that is
      never right flips least.
    * ``area_<kind>``: area under A by the trapezoidal rule, divided by the largest strength.
    * ``half_strength_<kind>``: see ``half_strengths``; its standard error is that of a bootstrap
      over the items, and null if some resample has no such strength.

    An item that could not be perturbed at a strength is left out there, and left out of the last
    two scores altogether, so that these are over the same items along the whole curve. The counts
    of the scores show it.

    Attributes:
        measure: the name of the measure.
        split: the name of the split.
        kind: of the perturbation, as in the names of the scores.
        strengths: rising, the first is 0, K of them.
        right: float64, shape (R, N, K): 1 right, 0 wrong, NaN not measured. Strength 0 is measured
            for every item and is the same in all draws.
        chance: probability that a guess is right: one number, or (N,), one an item.
        strength_unit: unit of the strengths.
        with_flips: also give ``flip_rate_under_<kind>``.
        shared: further fields of all rows.
        causes: strength -> why items could not be perturbed there; None -> at any strength. Part of
            the reason of a score without a value.
    """

    measure: str
    split: str
    kind: str
    strengths: list[float]
    right: NDArray[np.float64]
    chance: float | NDArray[np.float64]
    strength_unit: str
    with_flips: bool = True
    shared: Mapping[str, Any] = field(default_factory=dict)
    causes: Mapping[float | None, str] = field(default_factory=dict)

    def rows(self) -> list[ItemResult]:
        """Return the fields of each item's row, N rows, without the fields not measured."""
        columns = self._columns
        return [
            {
                **self.shared,
                **{
                    name: float(values[item])
                    for name, values in columns.items()
                    if not np.isnan(values[item])
                },
            }
            for item in range(self.right.shape[1])
        ]

    def scores(self) -> list[Score]:
        """Return the scores of each strength, then those of the whole curve."""
        scores = [
            self._mean(name, strength)
            for name in self._names
            for strength in self.strengths
            if self._key(name, strength) in self._columns
        ]
        return [*scores, self._mean(self._area, None), self._half_strength()]

    @cached_property
    def _names(self) -> dict[str, NDArray[np.float64]]:
        """Name of a score -> value for each item and strength: (N, K), NaN: not measured."""
        changed = np.where(np.isnan(self.right), np.nan, self.right != self.right[:, :, :1])
        with warnings.catch_warnings():  # about items without any draw, which stay NaN
            warnings.simplefilter("ignore", RuntimeWarning)
            values = {f"accuracy_under_{self.kind}": np.nanmean(self.right, axis=0)}
            if len(self.right) > 1:
                values[f"worst_of_draws_under_{self.kind}"] = np.nanmin(self.right, axis=0)
            if self.with_flips:
                flips = np.nanmean(changed, axis=0)
                flips[:, 0] = np.nan  # strength 0 is what flips are counted from
                values[f"flip_rate_under_{self.kind}"] = flips
        return values

    @property
    def _area(self) -> str:
        return f"area_{self.kind}"

    @cached_property
    def _columns(self) -> dict[str, NDArray[np.float64]]:
        """Field of the rows -> value for each item: (N,)."""
        columns = {
            self._key(name, strength): values[:, k]
            for name, values in self._names.items()
            for k, strength in enumerate(self.strengths)
            if k or not name.startswith("flip_rate")
        }
        accuracy = self._names[f"accuracy_under_{self.kind}"]
        # NaN for an item that was not measured at every strength.
        area = np.trapezoid(accuracy, self.strengths, axis=1) / self.strengths[-1]
        columns[self._area] = np.asarray(area)
        return columns

    def _key(self, name: str, strength: float) -> str:
        return f"{name}_{strength:.12g}"

    def _mean(self, name: str, strength: float | None) -> Score:
        key = name if strength is None else self._key(name, strength)
        values = self._columns[key]
        measured = values[~np.isnan(values)]
        # The area is a mean of shares. Its unit differs, so that figures and tables separate them.
        unit = "share of items" if strength is not None else "mean share of items"
        if name.startswith("flip_rate"):
            unit = "share of answers"
        common: dict[str, Any] = {
            "higher_is_better": None if name.startswith("flip_rate") else True,
            "strength": strength,
        }
        if not len(measured) and self.right.shape[1]:
            where = "every strength" if strength is None else f"strength {strength:g}"
            reason = f"no item could be disturbed at {where}{self._because(strength)}"
            return Score(self.measure, self.split, name, None, unit, 0, reason=reason, **common)
        return mean_score(
            measured.tolist(),
            measure=self.measure,
            split=self.split,
            score=name,
            unit=unit,
            rows_key=key,
            **common,
        )

    def _half_strength(self) -> Score:
        accuracy = self._names[f"accuracy_under_{self.kind}"]
        whole = ~np.isnan(accuracy).any(axis=1)
        complete = accuracy[whole]
        chance = np.broadcast_to(self.chance, len(accuracy))[whole]
        value = error = reason = None
        censored = False
        if not len(complete):
            reason = f"no item could be disturbed at every strength{self._because(None)}"
        else:
            curve = complete.mean(axis=0)
            (half,) = half_strengths(self.strengths, curve[None], float(chance.mean()))
            if np.isnan(half):
                censored = bool(curve[0] > chance.mean())
                reason = self._no_half_strength(float(curve[0]), float(chance.mean()))
            else:
                value = float(half)
                error = self._bootstrap(complete, chance)
        return Score(
            self.measure,
            self.split,
            f"half_strength_{self.kind}",
            value,
            self.strength_unit,
            len(complete),
            higher_is_better=True,
            standard_error=error,
            reason=reason,
            censored=censored,
        )

    def _because(self, strength: float | None) -> str:
        return f": {self.causes[strength]}" if strength in self.causes else ""

    def _no_half_strength(self, clean: float, chance: float) -> str:
        if clean <= chance:
            return (
                f"without a disturbance {clean:.3g} of the items are right, no more than the "
                f"{chance:.3g} of chance: there is no advantage to lose"
            )
        return (
            f"more than half of the advantage over chance is left up to strength "
            f"{self.strengths[-1]:g}; add larger strengths"
        )

    def _bootstrap(
        self, accuracy: NDArray[np.float64], chance: NDArray[np.float64]
    ) -> float | None:
        """Return the standard error over the N items, None if a resample has no value."""
        count = len(accuracy)
        draws = generator(0, "half strength").integers(count, size=(_RESAMPLES, count))
        curves = np.stack([accuracy[draw].mean(axis=0) for draw in draws])
        halves = half_strengths(self.strengths, curves, chance[draws].mean(axis=1))
        return None if np.isnan(halves).any() or count < 2 else float(halves.std(ddof=1))


def item_results(curves: Sequence[RobustnessCurve]) -> list[ItemResult]:
    """Return one row an item, with the fields of all ``curves`` of one split."""
    by_item = zip(*(curve.rows() for curve in curves), strict=True)
    return [
        {
            "split": curves[0].split,
            "item": item,
            **{name: value for row in rows for name, value in row.items()},
        }
        for item, rows in enumerate(by_item)
    ]


def half_strengths(
    strengths: list[float], curves: NDArray[np.float64], chance: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return, for each curve, the strength at which half of the advantage over chance is lost.

    With A(s) the accuracy, linear between the strengths, it is the smallest s at which A(s) =
    chance + (A(0) - chance) / 2. NaN where A(0) is not above chance, or A stays above that value
    at all strengths: nothing is extrapolated.

    Args:
        strengths: rising, the first is 0, K of them.
        curves: accuracies, float64, shape (curves, K).
        chance: the accuracy of guessing: one number, or one a curve.

    Returns:
        float64, shape (curves,), in units of strength.
    """
    x = np.asarray(strengths, np.float64)
    target = chance + (curves[:, 0] - chance) / 2
    height = curves - target[:, None]
    below = height <= 0
    halves = np.full(len(curves), np.nan)
    at = np.flatnonzero((curves[:, 0] > chance) & below.any(axis=1))
    after = below[at].argmax(axis=1)  # at least 1: the clean accuracy is above the target
    high, low = height[at, after - 1], height[at, after]
    halves[at] = x[after - 1] + high / (high - low) * (x[after] - x[after - 1])
    return halves
