"""Scores as a function of a numeric factor of the grid, such as the rate of wrong answers.

Shape letters: S = seeds, K = levels of the factor.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ntpctp._core.rng import generator
from ntpctp.config import Arm, Experiment
from ntpctp.measures.computation.curve import half_strengths
from ntpctp.objectives import Noisy
from ntpctp.statistics import PairedDifference, Verdict, holm_of_known, paired_difference, verdict

LABEL_NOISE = "objective.rate"
_FEWEST_LEVELS = 3
"""Two levels give a difference, which the verdicts cover; a curve needs three."""


@dataclass(frozen=True)
class ResponseLine:
    """Arms that differ in one factor only, sorted by its level.

    Attributes:
        name: the levels of the other factors; "all arms" without other factors.
        arms: the K arms.
        values: seed -> K values; None for a run without a value.
    """

    name: str
    arms: list[str]
    values: dict[int, list[float | None]]

    @property
    def complete(self) -> dict[int, list[float]]:
        """Seed -> values, for the seeds that have a value at every level."""
        complete = {}
        for seed, values in self.values.items():
            known = [value for value in values if value is not None]
            if len(known) == len(self.arms):
                complete[seed] = known
        return complete


@dataclass(frozen=True)
class AreaDifference:
    """Area under line A minus area under line B, over the seeds complete in both."""

    a: str
    b: str
    difference: PairedDifference | None  # None: no seed is complete in both
    verdict: Verdict | None
    holm_p_value: float | None  # adjusted for all pairs of lines


@dataclass(frozen=True)
class FactorResponse:
    """A score at the last step as a function of one numeric factor, one line per other setting.

    Attributes:
        factor: the dotted field.
        levels: the K levels, increasing.
        split: on which the score was measured.
        score: its name.
        unit: its unit.
        higher_is_better: direction of the score.
        lines: in the order of the arms.
        chance: chance level of the score.
        is_noise: whether the factor is the rate of wrong labels, starting at 0; only then is the
            area a measure of robustness and the half strength defined.
    """

    factor: str
    levels: list[float]
    split: str
    score: str
    unit: str
    higher_is_better: bool | None
    lines: list[ResponseLine]
    chance: float
    is_noise: bool

    def areas(self, line: ResponseLine) -> dict[int, float]:
        """Return seed -> area under the line, divided by the largest level.

        This is the mean score over levels from 0 to the largest, by the trapezoidal rule.
        """
        return {
            seed: float(np.trapezoid(values, self.levels) / self.levels[-1])
            for seed, values in line.complete.items()
        }

    def halves(self, line: ResponseLine) -> dict[int, float | None]:
        """Return seed -> level at which half of the advantage over chance is lost.

        See ``measures.curve.half_strengths``; None if there is no advantage at level 0, or if more
        than half of it remains at the largest level.
        """
        values = np.array(list(line.complete.values()), np.float64).reshape(-1, len(self.levels))
        halves = half_strengths(self.levels, values, self.chance)
        return {
            seed: None if np.isnan(half) else float(half)
            for seed, half in zip(line.complete, halves, strict=True)
        }

    @cached_property
    def _stream(self) -> tuple[str, ...]:
        return "responses", self.factor, self.split, self.score

    def differences(self, level: float) -> list[AreaDifference]:
        """Return the differences between the areas of all pairs of lines, paired by seed.

        Args:
            level: of the intervals.
        """
        pairs = list(combinations(self.lines, 2))
        differences = [self._difference(a, b, level) for a, b in pairs]
        p_values = [None if d is None else d.p_value for d in differences]
        adjusted = holm_of_known(p_values) if len(pairs) > 1 else [None] * len(pairs)
        results = []
        for (a, b), difference, p in zip(pairs, differences, adjusted, strict=True):
            decided = None
            if difference is not None and self.higher_is_better is not None:
                decided = verdict(
                    difference,
                    names=(a.name, b.name),
                    higher_is_better=self.higher_is_better,
                    margin=None,
                    adjusted_p_value=p,
                )
            results.append(AreaDifference(a.name, b.name, difference, decided, p))
        return results

    def _difference(
        self, a: ResponseLine, b: ResponseLine, level: float
    ) -> PairedDifference | None:
        areas = self.areas(a), self.areas(b)
        seeds = [seed for seed in areas[0] if seed in areas[1]]
        if not seeds:
            return None
        values = [np.array([of_line[seed] for seed in seeds]) for of_line in areas]
        rng = generator(0, *self._stream, a.name, b.name)
        largest = 1.0 if "share" in self.unit.split() else math.inf
        return paired_difference(values[0], values[1], rng, level=level, largest=largest)


def factor_responses(
    experiment: Experiment,
    frame: pd.DataFrame,
    scores: Sequence[str],
    chance: Callable[[str, str], float],
) -> list[FactorResponse]:
    """Return the responses to every numeric factor of the experiment's grid, at the last steps.

    A factor is numeric if all arms have a number for it, with at least three different values.

    Args:
        experiment: with the ``factors`` of its grid; an experiment without a grid has no response.
        frame: from ``checkpoint_scores.collect``.
        scores: names of scores; the first one measured on a split is used there.
        chance: (split, score) -> chance level.
    """
    last = {name: arm.training.steps for name, arm in experiment.arms.items()}
    final = frame[
        (frame["step"] == frame["arm"].map(last))
        & frame["strength"].isna()
        & frame["stratum"].isna()
        & frame["split"].isin(experiment.task.evaluation_splits)
    ]
    responses: list[FactorResponse] = []
    for factor in next(iter(experiment.factors.values()), {}):
        levels = _levels(experiment, factor)
        if len(set(levels.values())) < _FEWEST_LEVELS:
            continue
        for split, of_split in final.groupby("split", sort=False):
            measured = [score for score in scores if (of_split["score"] == score).any()]
            if measured:
                group = of_split[of_split["score"] == measured[0]]
                guess = chance(str(split), measured[0])
                responses.append(_response(experiment, factor, levels, group, guess))
    return responses


def _response(
    experiment: Experiment,
    factor: str,
    levels: dict[str, float],
    scores: pd.DataFrame,
    chance: float,
) -> FactorResponse:
    first = scores.iloc[0]
    values = {
        (str(arm), int(seed)): None if pd.isna(value) else float(value)
        for arm, seed, value in zip(scores["arm"], scores["seed"], scores["value"], strict=True)
    }
    by_line: dict[str, list[str]] = {}
    for arm, of_arm in experiment.factors.items():
        others = [level for name, level in of_arm.items() if name != factor]
        by_line.setdefault(", ".join(others) or "all arms", []).append(arm)
    lines = []
    for name, arms in by_line.items():
        rising = sorted(arms, key=levels.__getitem__)
        lines.append(
            ResponseLine(
                name,
                rising,
                {seed: [values.get((arm, seed)) for arm in rising] for seed in experiment.seeds},
            )
        )
    axis = sorted(set(levels.values()))
    return FactorResponse(
        factor,
        axis,
        str(first["split"]),
        str(first["score"]),
        str(first["unit"]),
        None if pd.isna(first["higher_is_better"]) else bool(first["higher_is_better"]),
        lines,
        chance,
        factor == LABEL_NOISE and axis[0] == 0 and _all_noisy(experiment),
    )


def _all_noisy(experiment: Experiment) -> bool:
    return all(isinstance(arm.objective, Noisy) for arm in experiment.arms.values())


def _levels(experiment: Experiment, factor: str) -> dict[str, float]:
    """Return arm -> its number in the field ``factor``; empty if some arm has no number there."""
    values = {name: _field(arm, factor) for name, arm in experiment.arms.items()}
    numbers = {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return numbers if len(numbers) == len(values) else {}


def _field(arm: Arm, field: str) -> Any:
    value: Any = arm.model_dump()
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
