"""One score of all runs at the last step of their arms: values per run and per item."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ntpctp._core.layout import RunId
from ntpctp._core.rng import generator
from ntpctp.analysis.item_scores import ItemValues
from ntpctp.statistics import (
    TimeComparison,
    TimesToTarget,
    censored_times,
    compare_times_to_target,
)


class ItemSource(Protocol):
    """Reads values of single items: ``ItemRows``, or ``JoinedItemRows`` of several experiments."""

    def values(
        self, run: RunId, step: int, measure: str, split: str, key: str, stratum: str | None
    ) -> ItemValues:
        """Return the items that have a value, with their values."""

    def read(self, measure: str, runs: Iterable[tuple[RunId, int]]) -> None:
        """Read the item rows of several runs at their steps into the cache."""


@dataclass(frozen=True)
class ScoreValues:
    """One score of all runs at the last step of their arm."""

    values: dict[str, dict[int, float | None]]  # arm -> seed -> value
    bounds: dict[str, dict[int, float]]  # arm -> seed -> error bound of the value
    score: Any  # the columns that all rows share
    last: Mapping[str, int]  # arm -> step
    items: ItemSource
    censored: frozenset[str]  # arms with a null value that stands for "larger than was measured"
    missing: list[str]  # "arm, seed k: reason" of every value that could not be computed
    _cache: dict[RunId, ItemValues] = field(default_factory=dict, init=False, repr=False)
    # run -> id of its items, equal for runs with equal items
    _item_sets: dict[RunId, int] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def read(cls, rows: pd.DataFrame, last: Mapping[str, int], items: ItemSource) -> Self:
        """Build from the rows of one score at the last steps.

        Args:
            rows: with the columns of ``scores.parquet``.
            last: arm -> step, all arms in order.
            items: reads the values of single items.
        """
        names = [name for name in last if name in set(rows["arm"])]
        values: dict[str, dict[int, float | None]] = {name: {} for name in names}
        bounds: dict[str, dict[int, float]] = {name: {} for name in names}
        missing = []
        censored: set[str] = set()
        for row in rows.to_dict("records"):
            known = pd.notna(row["value"])
            values[row["arm"]][row["seed"]] = float(row["value"]) if known else None
            bound = row.get("error_bound")
            bounds[row["arm"]][row["seed"]] = 0.0 if pd.isna(bound) else float(bound)
            if row["censored"]:
                censored.add(row["arm"])
            elif not known:
                missing.append(f"{RunId(row['arm'], row['seed'])}: {row['reason']}")
        first = rows.iloc[0].to_dict()  # faster to read than a Series
        if pd.notna(first["rows_key"]):
            known = ((arm, s) for arm, of in values.items() for s, v in of.items() if v is not None)
            items.read(first["measure"], [(RunId(arm, seed), last[arm]) for arm, seed in known])
        return cls(values, bounds, first, last, items, frozenset(censored), missing)

    @property
    def higher_is_better(self) -> bool | None:
        """Whether larger values are better; None for descriptive scores."""
        higher = self.score["higher_is_better"]
        return None if pd.isna(higher) else bool(higher)

    @property
    def largest(self) -> float:
        """The largest possible difference between two arms.

        1 for shares, 2 for ``forgotten_*`` of shares (a difference of two shares), else infinity.
        """
        if "share" not in str(self.score["unit"]).split():
            return math.inf
        low, high = (-1.0, 1.0) if str(self.score["score"]).startswith("forgotten_") else (0.0, 1.0)
        known = [v for of_arm in self.values.values() for v in of_arm.values() if v is not None]
        return high - low if all(low <= value <= high for value in known) else math.inf

    def known_values(self, arm: str) -> list[float]:
        """Return the values of an arm over seeds; empty if some value is censored."""
        if arm in self.censored:
            return []
        return [value for value in self.values.get(arm, {}).values() if value is not None]

    def seeds(self, of_all: Iterable[int], arms: Iterable[str]) -> list[int]:
        """Return those of ``of_all`` seeds that have a value in all of ``arms``."""
        by_seed = [self.values.get(arm, {}) for arm in arms]
        return [s for s in of_all if all(values.get(s) is not None for values in by_seed)]

    def array(self, arm: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Return the scores of an arm: (S,), or (S, N) if the score is a mean over item rows."""
        if pd.isna(self.score["rows_key"]):
            return np.array([self.values[arm][seed] for seed in seeds], np.float64)
        return np.stack([self._item_values(RunId(arm, seed)).values for seed in seeds])

    def item_numbers(self, arm: str, seeds: Sequence[int]) -> NDArray[np.int64] | None:
        """Return the items of an arm's scores; None if the score is no mean over item rows."""
        if pd.isna(self.score["rows_key"]):
            return None
        return self._item_values(RunId(arm, seeds[0])).items

    def differing_items(self, arms: Iterable[str], seeds: Sequence[int]) -> str | None:
        """Return why runs cannot be paired by item: two runs measured on different items.

        None if all runs have the same items.
        """
        if pd.isna(self.score["rows_key"]):
            return None
        first, *others = (RunId(arm, seed) for arm in arms for seed in seeds)
        for run in others:
            if self._item_set(run) != self._item_set(first):
                before, after = (self._item_values(each).items for each in (first, run))
                alone = len(np.setxor1d(before, after))
                return (
                    f"not of the same items: {len(before)} in {first}, {len(after)} in "
                    f"{run}, of which {alone} in one alone; measure all arms on the same items"
                )
        return None

    def _item_set(self, run: RunId) -> int:
        """Return an id of the items of a run's value, equal for runs with equal items."""
        if run not in self._item_sets:
            items = self._item_values(run).items
            self._item_sets[run] = next(
                (
                    number
                    for other, number in self._item_sets.items()
                    if np.array_equal(self._item_values(other).items, items)
                ),
                len(self._item_sets),
            )
        return self._item_sets[run]

    def _item_values(self, run: RunId) -> ItemValues:
        if run not in self._cache:
            stratum = None if pd.isna(self.score["stratum"]) else str(self.score["stratum"])
            key = self.score["measure"], self.score["split"], self.score["rows_key"], stratum
            self._cache[run] = self.items.values(run, self.last[run.arm], *key)
        return self._cache[run]

    def times(self, a: str, b: str) -> TimeComparison:
        """Compare the times to a target of two arms; null values are censored at the last step."""
        return compare_times_to_target(*(self._times_of(arm) for arm in (a, b)))

    def resolution(self, seeds: Sequence[int], a: str, b: str) -> float:
        """Return the largest difference of two arms that error bounds of their values explain."""
        return float(sum(np.mean([self.bounds[arm][s] for s in seeds]) for arm in (a, b)))

    def seeds_with_value(self, arm: str) -> str:
        """Return text that says how many seeds of an arm have a value."""
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
        """Return a separate random stream, so that adding an arm changes no other comparison."""
        return generator(0, *what, self.score["measure"], self.score["split"], self.score["score"])
