"""Aggregates of arms over tasks: interquartile mean, profile, probability of improvement."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ntpctp._core.rng import generator
from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.analysis.joins.groups import ExperimentGroup
from ntpctp.analysis.primary import primary_score
from ntpctp.statistics import (
    Aggregate,
    Profile,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)

LIMITS = (
    "The tasks are held fixed: the intervals are for other seeds on these tasks, not for other "
    "tasks.",
    "Scores are averaged without normalisation: a hard and an easy task have the same weight, and "
    "chance is not subtracted.",
    "Intervals are percentile bootstraps over seeds. The coverage of nominal 95 % intervals is 92 "
    "to 94 % with 3 seeds and 5 to 20 tasks, and clearly lower with fewer tasks (76 % with one). "
    "With one seed no interval is given.",
    "The probability of improvement tells how certain an improvement is, not how large; its "
    "interval has zero width if one arm wins every pair of runs.",
    "No p values are given, and nothing is corrected for the number of arms.",
)
"""Limitations of the aggregates, to be shown beside them."""

_NUM_THRESHOLDS = 21


@dataclass(frozen=True)
class Improvement:
    """The probability that a run of A is better than a run of B, over tasks."""

    a: str
    b: str
    probability: Aggregate


@dataclass(frozen=True)
class TaskAggregates:
    """Aggregates of the arms that all tasks share, over the primary score of each task.

    Attributes:
        tasks: label of the task -> split and name of its score.
        unit: of all of these scores.
        higher_is_better: for all of these scores.
        seeds: arm -> seeds with a value in all tasks.
        means: arm -> interquartile mean.
        profiles: arm -> share of runs and tasks above each threshold.
        improvements: of all pairs of arms.
        notes: what is left out, and why.
    """

    tasks: dict[str, str]
    unit: str
    higher_is_better: bool | None
    seeds: dict[str, list[int]]
    means: dict[str, Aggregate]
    profiles: dict[str, Profile]
    improvements: list[Improvement]
    notes: list[str]


def aggregate_tasks(groups: Sequence[ExperimentGroup]) -> tuple[TaskAggregates | None, list[str]]:
    """Return the aggregates over the tasks of ``groups`` (None if none can be computed) and notes.

    Each task contributes its primary score, which depends on the task alone (``primary_score``).
    """
    scores_of = [primary_score(g.experiments[0].experiment, g.comparisons) for g in groups]
    primaries = {g.label: p for g, p in zip(groups, scores_of, strict=True) if p is not None}
    if len(primaries) < 2:
        return None, ["over tasks: fewer than two tasks have a score"]
    kinds = {(p.unit, p.higher_is_better) for p in primaries.values()}
    if len(kinds) > 1:
        units = "; ".join(f"{label}: {p.score} in {p.unit}" for label, p in primaries.items())
        return None, [f"over tasks: scores on different scales are not averaged ({units})"]
    ((unit, higher),) = kinds
    seeds = _seeds(list(primaries.values()))
    arms = [arm for arm, of_arm in seeds.items() if of_arm]
    notes = _left_out(primaries, arms)
    if not arms:
        return None, notes
    scores = {
        arm: np.array(
            [[p.values[arm][seed] for p in primaries.values()] for seed in seeds[arm]], float
        )
        for arm in arms
    }
    level = groups[0].spec.level
    sign = -1.0 if higher is False else 1.0
    thresholds = _thresholds(scores.values(), unit)
    return (
        TaskAggregates(
            {label: f"{p.split} {p.score}" for label, p in primaries.items()},
            unit,
            higher,
            {arm: seeds[arm] for arm in arms},
            {
                arm: interquartile_mean(x, generator(0, "iqm", arm), level=level)
                for arm, x in scores.items()
            },
            {
                arm: performance_profile(x, thresholds, generator(0, "profile", arm), level=level)
                for arm, x in scores.items()
            },
            [
                Improvement(
                    a,
                    b,
                    probability_of_improvement(
                        sign * scores[a],
                        sign * scores[b],
                        generator(0, "improvement", a, b),
                        level=level,
                    ),
                )
                for a, b in combinations(arms, 2)
            ],
            notes,
        ),
        notes,
    )


def _seeds(primaries: Sequence[ScoreComparison]) -> dict[str, list[int]]:
    """Return arm of the first task -> seeds with a value in all tasks."""
    first, *_ = primaries
    return {
        arm: [
            seed
            for seed in values
            if all(p.values.get(arm, {}).get(seed) is not None for p in primaries)
        ]
        for arm, values in first.values.items()
    }


def _left_out(primaries: dict[str, ScoreComparison], arms: Sequence[str]) -> list[str]:
    notes = []
    for arm in dict.fromkeys(arm for p in primaries.values() for arm in p.values):
        if arm in arms:
            continue
        without = [label for label, p in primaries.items() if arm not in p.values]
        reason = (
            f"{', '.join(without)} has no arm of that name"
            if without
            else "no seed has a value in all tasks"
        )
        notes.append(f"over tasks: {arm} is left out: {reason}")
    return notes


def _thresholds(scores: Iterable[NDArray[np.float64]], unit: str) -> NDArray[np.float64]:
    if "share" in unit.split():
        return np.linspace(0, 1, _NUM_THRESHOLDS)
    flat = np.concatenate([np.ravel(x) for x in scores])
    return np.linspace(flat.min(), flat.max(), _NUM_THRESHOLDS)
