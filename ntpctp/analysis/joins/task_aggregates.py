"""Arms over several tasks: interquartile mean, performance profile, probability of improvement."""

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
    "The tasks are held fixed: the intervals say what other seeds would give on these tasks, not "
    "what other tasks would.",
    "Scores are averaged as they are: a hard and an easy task have the same weight, and chance is "
    "not subtracted.",
    "Intervals are percentile bootstraps over seeds. Of nominal 95 % they cover 92 to 94 % with 3 "
    "seeds and 5 to 20 tasks, and clearly less with fewer tasks (76 % with one); with one seed "
    "there is none.",
    "The probability of improvement says how sure an improvement is, not how large; its interval "
    "has no width where one arm wins every pair of runs.",
    "No p value is given here and nothing is corrected for the number of arms.",
)
"""What the numbers do not say, for everything that shows them."""

_NUM_THRESHOLDS = 21


@dataclass(frozen=True)
class Improvement:
    """The probability that a run of A is better than a run of B, over tasks."""

    a: str
    b: str
    probability: Aggregate


@dataclass(frozen=True)
class TaskAggregates:
    """The arms that all tasks have, on the primary score of each.

    Attributes:
        tasks: label -> name of its score.
        unit: of all of these scores.
        higher_is_better: of all.
        seeds: arm -> those with a value in all tasks.
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
    """Return the aggregates over the tasks of ``groups``, or None and why there are none.

    The score of each task is the one that its verdict is about (``primary_score``), which its task
    decides before any result.
    """
    primaries = [primary_score(g.sources[0].experiment, g.comparisons) for g in groups]
    found = {g.label: p for g, p in zip(groups, primaries, strict=True) if p is not None}
    if len(found) < 2:
        return None, ["over tasks: fewer than two tasks have a score"]
    kinds = {(p.unit, p.higher_is_better) for p in found.values()}
    if len(kinds) > 1:
        units = "; ".join(f"{label}: {p.score} in {p.unit}" for label, p in found.items())
        return None, [f"over tasks: scores on different scales are not averaged ({units})"]
    ((unit, higher),) = kinds
    seeds = _seeds(list(found.values()))
    arms = [arm for arm, of_arm in seeds.items() if of_arm]
    notes = _left_out(found, arms)
    if not arms:
        return None, notes
    scores = {
        arm: np.array([[p.values[arm][seed] for p in found.values()] for seed in seeds[arm]], float)
        for arm in arms
    }
    level = groups[0].spec.level
    sign = -1.0 if higher is False else 1.0
    thresholds = _thresholds(scores.values(), unit)
    return (
        TaskAggregates(
            {label: f"{p.split} {p.score}" for label, p in found.items()},
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
    """Return, for every arm of the first task, the seeds with a value in all tasks."""
    first, *_ = primaries
    return {
        arm: [
            seed
            for seed in values
            if all(p.values.get(arm, {}).get(seed) is not None for p in primaries)
        ]
        for arm, values in first.values.items()
    }


def _left_out(found: dict[str, ScoreComparison], arms: Sequence[str]) -> list[str]:
    notes = []
    for arm in dict.fromkeys(arm for p in found.values() for arm in p.values):
        if arm in arms:
            continue
        without = [label for label, p in found.items() if arm not in p.values]
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
