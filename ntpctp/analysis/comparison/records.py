"""Results of a comparison: of a score, of two arms, of a factor."""

from dataclasses import dataclass, field

from ntpctp.analysis.matched_budget import MatchedBudget
from ntpctp.statistics import (
    Effect,
    PairedDifference,
    Share,
    Spread,
    SpreadComparison,
    StandardisedEffect,
    TimeComparison,
    Verdict,
)


@dataclass(frozen=True)
class SeedItems:
    """Number of items that only A or only B solves in one seed, and McNemar's exact test."""

    seed: int
    num_only_a: int
    num_only_b: int
    num_items: int
    p_value: float  # for these weights and new items; not corrected


@dataclass(frozen=True)
class Pair:
    """Two arms on one score: A minus B, seed by seed and, where there are items, item by item."""

    a: str
    b: str
    seeds: list[int]  # seeds that both arms share
    difference: PairedDifference | None
    holm_p_value: float | None  # adjusted for all compared pairs on this score
    verdict: Verdict | None  # None for descriptive scores
    spread: SpreadComparison | None
    times: TimeComparison | None  # for steps to a target, including censored seeds
    reason: str | None  # why there is no difference or no verdict
    effect: StandardisedEffect | None = None  # in standard deviations of the seeds' differences
    mcnemar: list[SeedItems] | None = None  # None unless item scores are 0 or 1
    matched: list[MatchedBudget] = field(default_factory=list)  # for scores with learning curves


@dataclass(frozen=True)
class FactorEffect:
    """A main effect or an interaction of a grid's factors on one score."""

    effect: Effect
    seeds: list[int]  # seeds that all arms share
    holm_p_value: float | None  # adjusted for all effects on this score


@dataclass(frozen=True)
class ScoreComparison:
    """One score of all arms at their last step."""

    measure: str
    split: str
    stratum: str | None  # subset of the items; None: all items
    score: str
    strength: float | None
    unit: str
    higher_is_better: bool | None
    margin: float | None
    target: float | None
    steps: dict[str, int]  # arm -> its last step
    arms: dict[str, Spread | None]  # over seeds; None: no seed has a value
    reaching: dict[str, Share | None]  # of seeds that reach the target; None: no target or no value
    values: dict[str, dict[int, float | None]]  # arm -> seed -> value
    missing: list[str]  # "arm, seed k: reason" of every value that could not be computed
    pairs: list[Pair]
    effects: list[FactorEffect]  # of a grid with at least two factors
