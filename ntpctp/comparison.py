"""Arms against each other at the end of training, from files alone: ``comparison.json``."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ntpctp.errors import InputError
from ntpctp.experiment import Experiment
from ntpctp.randomness import generator
from ntpctp.runs import RunId
from ntpctp.scores import IDENTITY, ItemRows
from ntpctp.statistics import (
    PairedDifference,
    Spread,
    SpreadComparison,
    Verdict,
    describe_spread,
    paired_difference,
    spread,
    verdict,
)
from ntpctp.storage import read_json, write_json

COMPARISON = "comparison.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Pair:
    """Two arms on one score: A minus B, seed by seed and, where there are items, item by item."""

    a: str
    b: str
    seeds: list[int]  # those that both arms have
    difference: PairedDifference | None
    verdict: Verdict | None  # None where neither direction is better
    spread: SpreadComparison | None
    reason: str | None  # why there is no difference


@dataclass(frozen=True)
class ScoreComparison:
    """One score of all arms at their last step."""

    measure: str
    split: str
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


def compare(experiment: Experiment, frame: pd.DataFrame, output: Path) -> list[ScoreComparison]:
    """Compare all arms on all scores at their last steps.

    Args:
        experiment: names, seeds, level and margins.
        frame: as ``scores.collect`` gives it.
        output: where the item rows are.

    Returns:
        One comparison a score, in the order of the measures.
    """
    last = {name: arm.training.steps for name, arm in experiment.arms.items()}
    final = frame[frame["step"] == frame["arm"].map(last)]
    items = ItemRows(output)
    return [
        _compare_score(experiment, group, last, items)
        for _, group in final.groupby(IDENTITY, sort=False, dropna=False)
    ]


def write_comparison(
    experiment: Experiment, comparisons: Sequence[ScoreComparison], output: Path
) -> None:
    """Write ``comparison.json``, atomically."""
    write_json(
        output / COMPARISON,
        {
            "schema_version": SCHEMA_VERSION,
            "experiment": experiment.name,
            "seeds": experiment.seeds,
            "level": experiment.comparison.level,
            "scores": [asdict(comparison) for comparison in comparisons],
        },
    )


def read_comparison(output: Path) -> dict[str, Any]:
    """Read ``comparison.json``.

    Raises:
        InputError: if there is none.
    """
    if not (output / COMPARISON).is_file():
        raise InputError(f"{output / COMPARISON}: no comparison yet; run the experiment first")
    content: dict[str, Any] = read_json(output / COMPARISON)
    return content


def _compare_score(
    experiment: Experiment, group: pd.DataFrame, last: dict[str, int], items: ItemRows
) -> ScoreComparison:
    first = group.iloc[0]
    names = [name for name in experiment.arms if name in set(group["arm"])]
    values: dict[str, dict[int, float | None]] = {name: {} for name in names}
    missing = []
    for row in group.to_dict("records"):
        known = pd.notna(row["value"])
        values[row["arm"]][row["seed"]] = float(row["value"]) if known else None
        if not known:
            missing.append(f"{RunId(row['arm'], row['seed'])}: {row['reason']}")
    known_values = {
        name: [value for value in of_arm.values() if value is not None]
        for name, of_arm in values.items()
    }
    higher = None if pd.isna(first["higher_is_better"]) else bool(first["higher_is_better"])
    margin = experiment.comparison.margin.get(first["score"])
    pairs = [
        _compare_pair(experiment, a, b, values, first, higher, margin, last, items)
        for a, b in combinations(names, 2)
    ]
    return ScoreComparison(
        measure=first["measure"],
        split=first["split"],
        score=first["score"],
        strength=None if pd.isna(first["strength"]) else float(first["strength"]),
        unit=first["unit"],
        higher_is_better=higher,
        margin=margin,
        steps={name: last[name] for name in names},
        arms={
            name: describe_spread(of_arm) if of_arm else None
            for name, of_arm in known_values.items()
        },
        values=values,
        missing=missing,
        pairs=pairs,
    )


def _compare_pair(
    experiment: Experiment,
    a: str,
    b: str,
    values: dict[str, dict[int, float | None]],
    first: Any,
    higher: bool | None,
    margin: float | None,
    last: dict[str, int],
    items: ItemRows,
) -> Pair:
    seeds = [
        seed
        for seed in experiment.seeds
        if values[a].get(seed) is not None and values[b].get(seed) is not None
    ]
    if not seeds:
        return Pair(a, b, [], None, None, None, "no seed has a value in both arms")

    def scores(arm: str) -> NDArray[np.float64]:
        if pd.isna(first["rows_key"]):
            return np.array([values[arm][seed] for seed in seeds], np.float64)
        key = first["measure"], first["split"], first["rows_key"]
        return np.stack([items.values(RunId(arm, s), last[arm], *key) for s in seeds])

    # The same stream whatever else is compared: adding an arm moves no number of another pair.
    rng = generator(0, "comparison", a, b, first["measure"], first["split"], first["score"])
    scores_a, scores_b = scores(a), scores(b)
    difference = paired_difference(scores_a, scores_b, rng, level=experiment.comparison.level)
    means = [s.reshape(len(seeds), -1).mean(axis=1) for s in (scores_a, scores_b)]
    return Pair(
        a,
        b,
        seeds,
        difference,
        None
        if higher is None
        else verdict(difference, names=(a, b), higher_is_better=higher, margin=margin),
        spread(means[0], means[1], rng, names=(a, b)),
        None,
    )
