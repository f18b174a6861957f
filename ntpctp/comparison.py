"""Arms against each other at the end of training, from files alone: ``comparison.json``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ntpctp.errors import InputError
from ntpctp.experiment import Experiment
from ntpctp.item_rows import ItemRows, Values, rows_keys
from ntpctp.randomness import generator
from ntpctp.runs import RunId
from ntpctp.scores import IDENTITY
from ntpctp.statistics import (
    Effect,
    PairedDifference,
    Spread,
    SpreadComparison,
    TimeComparison,
    TimesToTarget,
    Verdict,
    censored_times,
    compare_times_to_target,
    describe_spread,
    factor_effects,
    holm,
    paired_difference,
    spread,
    verdict,
)
from ntpctp.storage import read_json, rebuilt, write_json

COMPARISON = "comparison.json"
SCHEMA_VERSION = 4


@dataclass(frozen=True)
class Pair:
    """Two arms on one score: A minus B, seed by seed and, where there are items, item by item."""

    a: str
    b: str
    seeds: list[int]  # those that both arms have
    difference: PairedDifference | None
    holm_p_value: float | None  # adjusted for all pairs of arms on this score
    verdict: Verdict | None  # None where neither direction is better
    spread: SpreadComparison | None
    times: TimeComparison | None  # of steps to a target: seeds that did not reach it count too
    reason: str | None  # why there is no difference


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
    steps: dict[str, int]  # arm -> its last step
    arms: dict[str, Spread | None]  # over seeds; None: no seed has a value
    values: dict[str, dict[int, float | None]]  # arm -> seed -> value
    missing: list[str]  # "arm, seed k: reason" of every value that could not be computed
    pairs: list[Pair]
    effects: list[FactorEffect]  # of a grid with at least two factors


@dataclass(frozen=True)
class Asked:
    """What a comparison needs to know beside the scores: of one experiment, or of several joined.

    Attributes:
        steps: arm -> its last step; the order of the arms.
        seeds: in order.
        level: of the intervals.
        margin: per score, the difference that would not matter, in its unit.
        factors: arm -> factor -> level, of a grid; else empty.
    """

    steps: Mapping[str, int]
    seeds: Sequence[int]
    level: float
    margin: Mapping[str, float]
    factors: Mapping[str, Mapping[str, str]]

    @property
    def arms(self) -> list[str]:
        """The names."""
        return list(self.steps)


def asked_by(experiment: Experiment) -> Asked:
    """Return what an experiment asks of its comparison."""
    return Asked(
        {name: arm.training.steps for name, arm in experiment.arms.items()},
        experiment.seeds,
        experiment.comparison.level,
        experiment.comparison.margin,
        experiment.factors,
    )


class Items(Protocol):
    """Where the values behind scores are, item by item: ``ItemRows``, or several joined."""

    def values(
        self, run: RunId, step: int, measure: str, split: str, key: str, stratum: str | None
    ) -> Values:
        """Return the numbers of the items that have a value, and the values: (items,) each."""


def compare(experiment: Experiment, frame: pd.DataFrame, output: Path) -> list[ScoreComparison]:
    """Compare all arms of an experiment on all scores at their last steps.

    Args:
        experiment: names, seeds, level and margins.
        frame: as ``scores.collect`` gives it.
        output: where the item rows are.

    Returns:
        One comparison a score, in the order of the measures.
    """
    return compare_scores(asked_by(experiment), frame, ItemRows(output, rows_keys(frame)))


def compare_scores(asked: Asked, frame: pd.DataFrame, items: Items) -> list[ScoreComparison]:
    """Compare arms on all scores at their last steps, whichever experiments they are of.

    Args:
        asked: arms, seeds, level and margins.
        frame: columns as of ``scores.parquet``; ``arm`` has the names of ``asked``.
        items: the values behind the scores that rest on items.
    """
    final = frame[frame["step"] == frame["arm"].map(asked.steps)]
    return [
        _compare_score(asked, group, items)
        for _, group in final.groupby(IDENTITY, sort=False, dropna=False)
    ]


def write_comparison(
    experiment: Experiment, comparisons: Sequence[ScoreComparison], output: Path
) -> None:
    """Write ``comparison.json``, atomically."""
    record = comparison_record(experiment.name, asked_by(experiment), comparisons)
    write_json(output / COMPARISON, record, indent=None)  # of many arms megabytes


def comparison_record(
    name: str, asked: Asked, comparisons: Sequence[ScoreComparison]
) -> dict[str, Any]:
    """Return what ``comparison.json`` holds of ``name``: an experiment, or several joined."""
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": name,
        "seeds": list(asked.seeds),
        "level": asked.level,
        "scores": _plain(comparisons),
    }


def _plain(value: Any) -> Any:
    """Return nested dataclasses as dicts, and arrays as lists."""
    if isinstance(value, str | int | float | None):
        return value
    if is_dataclass(value):
        return {key: _plain(of_key) for key, of_key in vars(value).items()}
    if isinstance(value, dict):
        return {key: _plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def read_comparison(output: Path) -> dict[str, Any]:
    """Read ``comparison.json``.

    Raises:
        InputError: if there is none, or it has another schema version.
    """
    path = output / COMPARISON
    if not path.is_file():
        raise InputError(f"{path}: no comparison yet; run the experiment first")
    content: dict[str, Any] = read_json(path)
    if (version := content.get("schema_version")) != SCHEMA_VERSION:
        raise InputError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {version}; `ntpctp compare "
            f"{output}` writes it anew from what is measured"
        )
    return content


def read_comparisons(output: Path) -> list[ScoreComparison]:
    """Read ``comparison.json`` as ``compare`` gave it.

    Raises:
        InputError: as ``read_comparison``; or if it is not what this program writes.
    """
    content = read_comparison(output)
    try:
        found: list[ScoreComparison] = rebuilt(list[ScoreComparison], content["scores"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{output / COMPARISON}: not what this program writes: {error}; `ntpctp compare "
            f"{output}` writes it anew"
        ) from error
    return found


def _compare_score(asked: Asked, group: pd.DataFrame, items: Items) -> ScoreComparison:
    first = group.iloc[0].to_dict()  # a Series is slow to ask
    names = [name for name in asked.arms if name in set(group["arm"])]
    values: dict[str, dict[int, float | None]] = {name: {} for name in names}
    bounds: dict[str, dict[int, float]] = {name: {} for name in names}
    missing = []
    censored: set[str] = set()  # arms some seed of which does not come to the value
    for row in group.to_dict("records"):
        known = pd.notna(row["value"])
        values[row["arm"]][row["seed"]] = float(row["value"]) if known else None
        bound = row.get("error_bound")
        bounds[row["arm"]][row["seed"]] = 0.0 if pd.isna(bound) else float(bound)
        if row["censored"]:
            censored.add(row["arm"])
        elif not known:
            missing.append(f"{RunId(row['arm'], row['seed'])}: {row['reason']}")
    known_values = {
        name: [value for value in of_arm.values() if value is not None and name not in censored]
        for name, of_arm in values.items()
    }
    higher = None if pd.isna(first["higher_is_better"]) else bool(first["higher_is_better"])
    margin = asked.margin.get(first["score"])
    measured = _Measured(values, bounds, first, asked.steps, items, frozenset(censored))
    pairs = [
        _compare_pair(asked, a, b, measured, higher, margin) for a, b in combinations(names, 2)
    ]
    return ScoreComparison(
        measure=first["measure"],
        split=first["split"],
        stratum=None if pd.isna(first["stratum"]) else str(first["stratum"]),
        score=first["score"],
        strength=None if pd.isna(first["strength"]) else float(first["strength"]),
        unit=first["unit"],
        higher_is_better=higher,
        margin=margin,
        steps={name: asked.steps[name] for name in names},
        arms={
            name: describe_spread(of_arm) if of_arm else None
            for name, of_arm in known_values.items()
        },
        values=values,
        missing=missing,
        pairs=_corrected(pairs, higher, margin),
        effects=_effects(asked, measured),
    )


@dataclass(frozen=True)
class _Measured:
    """One score of all runs at the last step of their arm."""

    values: dict[str, dict[int, float | None]]  # arm -> seed -> value
    bounds: dict[str, dict[int, float]]  # arm -> seed -> bound of the value's error
    score: Any  # the columns that all rows share
    last: Mapping[str, int]  # arm -> step
    items: Items
    censored: frozenset[str]  # arms with a value that is larger than was measured, and null
    found: dict[RunId, Values] = field(default_factory=dict)  # of the items, run by run

    def seeds(self, asked: Asked, arms: Iterable[str]) -> list[int]:
        """Return the seeds that have a value in all of ``arms``."""
        rows = [self.values.get(arm, {}) for arm in arms]
        return [s for s in asked.seeds if all(row.get(s) is not None for row in rows)]

    def of(self, arm: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Return the scores of an arm: (S,), or (S, N) where there are rows behind the value."""
        if pd.isna(self.score["rows_key"]):
            return np.array([self.values[arm][seed] for seed in seeds], np.float64)
        return np.stack([self._rows(RunId(arm, seed))[1] for seed in seeds])

    def other_items(self, arms: Iterable[str], seeds: Sequence[int]) -> str | None:
        """Say which two runs have values of different items, so that they cannot be paired."""
        if pd.isna(self.score["rows_key"]):
            return None
        runs = [RunId(arm, seed) for arm in arms for seed in seeds]
        first, *others = [(run, self._rows(run)[0]) for run in runs]
        for run, numbers in others:
            if not np.array_equal(first[1], numbers):
                alone = len(np.setxor1d(first[1], numbers))
                return (
                    f"not of the same items: {len(first[1])} in {first[0]}, {len(numbers)} in "
                    f"{run}, of which {alone} in one alone; measure all arms on the same items"
                )
        return None

    def _rows(self, run: RunId) -> Values:
        if run not in self.found:
            stratum = None if pd.isna(self.score["stratum"]) else str(self.score["stratum"])
            key = self.score["measure"], self.score["split"], self.score["rows_key"], stratum
            self.found[run] = self.items.values(run, self.last[run.arm], *key)
        return self.found[run]

    def times(self, a: str, b: str) -> TimeComparison:
        """Return the times to a target of two arms; a null stands for more than the last step."""
        return compare_times_to_target(*(self._times_of(arm) for arm in (a, b)))

    def resolution(self, seeds: Sequence[int], a: str, b: str) -> float:
        """Return how large a difference of two arms may be by the error bounds of values alone."""
        return float(sum(np.mean([self.bounds[arm][s] for s in seeds]) for arm in (a, b)))

    def arrived(self, arm: str) -> str:
        """Say how many seeds of an arm have a value."""
        values = self.values[arm].values()
        has = "reach it" if self.score["unit"] == "steps" else "have one"
        return f"{arm}: {sum(v is not None for v in values)} of {len(values)} seeds {has}"

    def _times_of(self, arm: str) -> TimesToTarget:
        last = self.last[arm]
        values = self.values[arm].values()
        reached = np.array([value is not None for value in values])
        times = np.array([last if value is None else value for value in values], np.float64)
        return censored_times(times, reached)

    def stream(self, *what: str) -> np.random.Generator:
        """Return a stream of its own: adding an arm moves no number of another comparison."""
        return generator(0, *what, self.score["measure"], self.score["split"], self.score["score"])


def _compare_pair(
    asked: Asked,
    a: str,
    b: str,
    measured: _Measured,
    higher: bool | None,
    margin: float | None,
) -> Pair:
    seeds = measured.seeds(asked, (a, b))
    times = measured.times(a, b) if measured.score["unit"] == "steps" else None
    if measured.censored & {a, b}:
        # A difference between the seeds that arrive would leave out the slow ones.
        arrived = ", ".join(measured.arrived(arm) for arm in (a, b))
        if times is not None and times.p_value is not None:
            arrived += f"; log-rank p = {times.p_value:.2g}"
        both = [s for s in asked.seeds if all(s in measured.values[arm] for arm in (a, b))]
        return Pair(a, b, both, None, None, None, None, times, arrived)
    if not seeds:
        return Pair(a, b, [], None, None, None, None, None, "no seed has a value in both arms")
    if other_items := measured.other_items((a, b), seeds):
        return Pair(a, b, seeds, None, None, None, None, times, other_items)
    rng = measured.stream("comparison", a, b)
    scores_a, scores_b = measured.of(a, seeds), measured.of(b, seeds)
    difference = paired_difference(scores_a, scores_b, rng, level=asked.level)
    means = [s.reshape(len(seeds), -1).mean(axis=1) for s in (scores_a, scores_b)]
    decided: Verdict | None = None
    reason: str | None = None
    if times is not None and abs(difference.estimate) <= measured.resolution(seeds, a, b):
        reason = (
            f"closer than checkpoints tell apart ({measured.resolution(seeds, a, b):.3g} steps); "
            "lower evaluation.every"
        )
    elif higher is not None:
        decided = verdict(difference, names=(a, b), higher_is_better=higher, margin=margin)
    spreads = spread(means[0], means[1], rng, names=(a, b))
    return Pair(a, b, seeds, difference, None, decided, spreads, times, reason)


def _corrected(pairs: list[Pair], higher: bool | None, margin: float | None) -> list[Pair]:
    """Correct for the number of pairs, where there are several."""
    p_values = [pair.difference.p_value if pair.difference else None for pair in pairs]
    if len(pairs) < 2:
        return pairs
    return [
        replace(
            pair,
            holm_p_value=adjusted,
            verdict=pair.verdict
            if pair.difference is None or pair.verdict is None or higher is None
            else verdict(
                pair.difference,
                names=(pair.a, pair.b),
                higher_is_better=higher,
                margin=margin,
                adjusted_p_value=adjusted,
            ),
        )
        for pair, adjusted in zip(pairs, _holm(p_values), strict=True)
    ]


def _holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust those that are known."""
    known = [p for p in p_values if p is not None]
    adjusted = iter(holm(known).tolist() if known else [])
    return [None if p is None else next(adjusted) for p in p_values]


def _effects(asked: Asked, measured: _Measured) -> list[FactorEffect]:
    """Return main effects and interactions, where all arms of the grid have the score."""
    factors = list(next(iter(asked.factors.values()), {}))
    if len(factors) < 2:
        return []
    seeds = measured.seeds(asked, asked.arms)
    if not seeds or measured.censored:
        return []
    if measured.other_items(asked.arms, seeds):
        return []  # the pairs say why
    cells = {
        tuple(levels.values()): measured.of(arm, seeds) for arm, levels in asked.factors.items()
    }
    rng = measured.stream("effects")
    effects = factor_effects(cells, factors, rng, level=asked.level)
    adjusted = _holm([effect.difference.p_value for effect in effects])
    return [FactorEffect(e, seeds, p) for e, p in zip(effects, adjusted, strict=True)]
