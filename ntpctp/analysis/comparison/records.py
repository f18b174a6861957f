"""What a comparison says: of a score, of two arms, of a factor."""

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
    """One seed's items that exactly one of two arms gets right, and McNemar's exact test."""

    seed: int
    num_only_a: int
    num_only_b: int
    num_items: int
    p_value: float  # for these weights and new items; corrected for nothing


@dataclass(frozen=True)
class Pair:
    """Two arms on one score: A minus B, seed by seed and, where there are items, item by item."""

    a: str
    b: str
    seeds: list[int]  # those that both arms have
    difference: PairedDifference | None
    holm_p_value: float | None  # adjusted for all compared pairs on this score
    verdict: Verdict | None  # None where neither direction is better
    spread: SpreadComparison | None
    times: TimeComparison | None  # of steps to a target: seeds that did not reach it count too
    reason: str | None  # why there is no difference
    effect: StandardisedEffect | None = None  # of the seeds' differences, in their own spread
    mcnemar: list[SeedItems] | None = None  # None: items are not right or wrong
    matched: list[MatchedBudget] = field(default_factory=list)  # of scores with a learning curve


@dataclass(frozen=True)
class FactorEffect:
    """A main effect or an interaction of a grid's factors on one score."""

    effect: Effect
    seeds: list[int]  # those that all arms have
    holm_p_value: float | None  # adjusted for all effects on this score


@dataclass(frozen=True)
class ScoreComparison:
    """One score of all arms at their last step."""

    measure: str
    split: str
    stratum: str | None  # the part of the items that it is about; None: all of them
    score: str
    strength: float | None
    unit: str
    higher_is_better: bool | None
    margin: float | None
    target: float | None
    steps: dict[str, int]  # arm -> its last step
    arms: dict[str, Spread | None]  # over seeds; None: no seed has a value
    reaching: dict[str, Share | None]  # seeds at the target or better; None: no target, no value
    values: dict[str, dict[int, float | None]]  # arm -> seed -> value
    missing: list[str]  # "arm, seed k: reason" of every value that could not be computed
    pairs: list[Pair]
    effects: list[FactorEffect]  # of a grid with at least two factors
