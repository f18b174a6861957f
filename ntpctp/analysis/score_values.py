"""One score of all runs at the last step of their arms: values, and the item rows behind them."""

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
    """Where the values behind scores are, item by item: ``ItemRows``, or several joined."""

    def values(
        self, run: RunId, step: int, measure: str, split: str, key: str, stratum: str | None
    ) -> ItemValues:
        """Return the numbers of the items that have a value, and the values: (items,) each."""

    def read(self, measure: str, runs: Iterable[tuple[RunId, int]]) -> None:
        """Read what will be asked for, several runs with their steps at once."""


@dataclass(frozen=True)
class ScoreValues:
    """One score of all runs at the last step of their arm."""

    values: dict[str, dict[int, float | None]]  # arm -> seed -> value
    bounds: dict[str, dict[int, float]]  # arm -> seed -> bound of the value's error
    score: Any  # the columns that all rows share
    last: Mapping[str, int]  # arm -> step
    items: ItemSource
    censored: frozenset[str]  # arms with a value that is larger than was measured, and null
    missing: list[str]  # "arm, seed k: reason" of every value that could not be computed
    found: dict[RunId, ItemValues] = field(default_factory=dict)  # of the items, run by run
    kinds: dict[RunId, int] = field(default_factory=dict)  # the same where the items are

    @classmethod
    def read(cls, rows: pd.DataFrame, last: Mapping[str, int], items: ItemSource) -> Self:
        """Read the rows of one score at the last steps.

        Args:
            rows: with the columns of ``scores.parquet``.
            last: arm -> step, all arms in their order.
            items: the values behind them.
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
        first = rows.iloc[0].to_dict()  # a Series is slow to ask
        if pd.notna(first["rows_key"]):
            known = ((arm, s) for arm, of in values.items() for s, v in of.items() if v is not None)
            items.read(first["measure"], [(RunId(arm, seed), last[arm]) for arm, seed in known])
        return cls(values, bounds, first, last, items, frozenset(censored), missing)

    @property
    def higher_is_better(self) -> bool | None:
        """Which direction is better; None: neither."""
        higher = self.score["higher_is_better"]
        return None if pd.isna(higher) else bool(higher)

    @property
    def largest(self) -> float:
        """The largest difference that two arms can have: 1 for shares, else infinity.

        2 for what is itself a difference of two shares: what was forgotten.
        """
        if "share" not in str(self.score["unit"]).split():
            return math.inf
        low, high = (-1.0, 1.0) if str(self.score["score"]).startswith("forgotten_") else (0.0, 1.0)
        known = [v for of_arm in self.values.values() for v in of_arm.values() if v is not None]
        return high - low if all(low <= value <= high for value in known) else math.inf

    def known(self, arm: str) -> list[float]:
        """Return the values of an arm over seeds; none if some are larger than was measured."""
        if arm in self.censored:
            return []
        return [value for value in self.values.get(arm, {}).values() if value is not None]

    def seeds(self, of_all: Iterable[int], arms: Iterable[str]) -> list[int]:
        """Return those of all seeds that have a value in all of ``arms``."""
        rows = [self.values.get(arm, {}) for arm in arms]
        return [s for s in of_all if all(row.get(s) is not None for row in rows)]

    def of(self, arm: str, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Return the scores of an arm: (S,), or (S, N) where there are rows behind the value."""
        if pd.isna(self.score["rows_key"]):
            return np.array([self.values[arm][seed] for seed in seeds], np.float64)
        return np.stack([self._rows(RunId(arm, seed))[1] for seed in seeds])

    def numbers(self, arm: str, seeds: Sequence[int]) -> NDArray[np.int64] | None:
        """Return the numbers of the items behind an arm's scores; None where there are none."""
        if pd.isna(self.score["rows_key"]):
            return None
        return self._rows(RunId(arm, seeds[0]))[0]

    def other_items(self, arms: Iterable[str], seeds: Sequence[int]) -> str | None:
        """Say which two runs have values of different items, so that they cannot be paired."""
        if pd.isna(self.score["rows_key"]):
            return None
        first, *others = (RunId(arm, seed) for arm in arms for seed in seeds)
        for run in others:
            if self._items_of(run) != self._items_of(first):
                before, numbers = (self._rows(each)[0] for each in (first, run))
                alone = len(np.setxor1d(before, numbers))
                return (
                    f"not of the same items: {len(before)} in {first}, {len(numbers)} in "
                    f"{run}, of which {alone} in one alone; measure all arms on the same items"
                )
        return None

    def _items_of(self, run: RunId) -> int:
        """Return a number for the items behind a run's value, alike for runs with the same ones."""
        if run not in self.kinds:
            numbers = self._rows(run)[0]
            self.kinds[run] = next(
                (k for r, k in self.kinds.items() if np.array_equal(self._rows(r)[0], numbers)),
                len(self.kinds),
            )
        return self.kinds[run]

    def _rows(self, run: RunId) -> ItemValues:
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
