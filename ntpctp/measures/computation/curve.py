"""Robustness curves: from answers under a perturbation of rising strength to rows and scores.

Shape letters: R = draws of the perturbation, N = items, K = strengths.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntpctp._core.rng import generator
from ntpctp.measures.measure import ItemResult, Measurement, Score, joined
from ntpctp.measures.scoring import mean_score

_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class RobustnessCurve:
    """Which items are answered correctly at each strength, and the scores computed from it.

    ``rows`` and ``scores`` belong together: a score that is a mean over items names the field of
    the rows that it averages. The measures ``robustness`` and ``edits`` define the scores. There is
    no ``worst_of_draws_under_<kind>`` for a single draw, where it is the accuracy, and no
    ``flip_rate_under_<kind>`` at strength 0. The standard error of ``half_strength_<kind>`` is that
    of a bootstrap over the items, and null if some resample has no such strength.

    An item that could not be perturbed at a strength is left out there, and left out of area and
    half strength altogether, so that these are over the same items along the whole curve. The
    counts of the scores show it.
    """

    measure: str
    split: str
    kind: str  # of the perturbation, as in the names of the scores
    strengths: list[float]  # rising, the first is 0, K of them
    right: NDArray[np.float64]
    """(R, N, K): 1 right, 0 wrong, NaN not measured. Strength 0 is measured for every item and is
    the same in all draws."""
    chance: float | NDArray[np.float64]
    """Probability that a guess is right: one number, or (N,), one an item."""
    strength_unit: str
    with_flips: bool = True  # also give ``flip_rate_under_<kind>``
    shared: Mapping[str, Any] = field(default_factory=dict)  # further fields of all rows
    causes: Mapping[float | None, str] = field(default_factory=dict)
    """Strength -> why items could not be perturbed there; None -> at any strength. Part of the
    reason of a score without a value."""

    def rows(self) -> list[ItemResult]:
        """Return the fields of each item's row, N rows, without the fields not measured."""
        return [
            {
                **self.shared,
                **{k: float(v[item]) for k, v in self._columns.items() if not np.isnan(v[item])},
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
        return [*scores, self._mean(f"area_{self.kind}", None), self._half_strength()]

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
        columns[f"area_{self.kind}"] = np.asarray(area)
        return columns

    def _key(self, name: str, strength: float) -> str:
        return f"{name}_{strength:.12g}"

    def _mean(self, name: str, strength: float | None) -> Score:
        key = name if strength is None else self._key(name, strength)
        values = self._columns[key]
        flips = name.startswith("flip_rate")
        # The area is a mean of shares. Its unit differs, so that figures and tables separate them.
        unit = "share of items" if strength is not None else "mean share of items"
        where = "every strength" if strength is None else f"strength {strength:g}"
        disturbed = f"no item could be disturbed at {where}{self._because(strength)}"
        return mean_score(
            values[~np.isnan(values)].tolist(),
            self.measure,
            self.split,
            name,
            "share of answers" if flips else unit,
            no_value=disturbed if len(values) else None,
            higher_is_better=None if flips else True,
            strength=strength,
            rows_key=key,
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
        of, count = (self.measure, self.split, f"half_strength_{self.kind}"), len(complete)
        fields: dict[str, Any] = {"reason": reason, "censored": censored}
        return Score(*of, value, self.strength_unit, count, True, error, **fields)

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
    rows: list[ItemResult] = []
    for item, parts in enumerate(zip(*(curve.rows() for curve in curves), strict=True)):
        rows.append({"split": curves[0].split, "item": item})
        for part in parts:
            rows[-1] |= part
    return rows


def measurement(curves: Iterable[Sequence[RobustnessCurve]]) -> Measurement:
    """Return the rows and the scores of the curves of each split."""
    return joined(
        (item_results(of_split), [score for curve in of_split for score in curve.scores()])
        for of_split in curves
    )


def half_strengths(
    strengths: list[float], curves: NDArray[np.float64], chance: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return, for each curve, the strength at which half of the advantage over chance is lost.

    With A(s) the accuracy, linear between the strengths, it is the smallest s at which A(s) =
    chance + (A(0) - chance) / 2. NaN where A(0) is not above chance, or A stays above that value at
    all strengths: nothing is extrapolated. ``strengths`` rise from 0, K of them; ``curves`` are
    accuracies, (curves, K); ``chance`` is the accuracy of guessing, one number or one a curve.
    Returns (curves,), in units of strength.
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
