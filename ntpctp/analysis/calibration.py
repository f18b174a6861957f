"""Are the verdicts calibrated? A/A comparisons and coverage on an experiment's own runs.

An A/A comparison calls two halves of the seeds of *one* arm A and B: every "better" is false, and
at level 0.95 about one in twenty should occur. Coverage is how often the interval of two arms
contains the true difference, which is known if the stored runs serve as the whole population. Both
use the scores that the report shows first, at the last step, whatever their verdicts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ntpctp._core.errors import InputError
from ntpctp._core.layout import run_again
from ntpctp._core.provenance import PROVENANCE, read_provenance
from ntpctp._core.records import read_sealed, write_sealed
from ntpctp._core.rng import generator
from ntpctp.analysis.checkpoint_scores import collect
from ntpctp.analysis.item_scores import ItemRows, rows_keys
from ntpctp.analysis.score_values import ScoreValues
from ntpctp.analysis.scores import IDENTITY, stands_alone
from ntpctp.config import Experiment, load_output
from ntpctp.statistics import Calibration, coverage, false_positive_rate

CALIBRATION = "calibration.json"
TRAINED = "calibration"
"""Subdirectory of an experiment's directory for the runs of further seeds."""
SCHEMA_VERSION = 1

SIZES = (2, 3, 5, 8, 10, 15, 20, 30)
"""Numbers of seeds per simulated experiment; used up to half of the stored seeds."""


@dataclass(frozen=True)
class ScoreKey:
    """One score of one arm. Field names enter the names of random streams: do not rename them."""

    arm: str
    measure: str
    split: str
    score: str


@dataclass(frozen=True)
class PooledRate:
    """A rate over arms and scores, beside its nominal value."""

    num_seeds: int  # per simulated experiment
    num_stored: int  # largest number of stored seeds of an arm
    num_comparisons: int  # arms (coverage: pairs of arms) times scores
    rate: float  # mean over the comparisons
    low: float  # 95 % interval, see ``method``
    high: float
    nominal: float
    of_normal: float  # the rate that the same procedure gives for normal scores
    method: str
    each: list[dict[str, Any]]  # each comparison with its ``Calibration``


def with_fresh_seeds(experiment: Experiment, count: int) -> Experiment:
    """Return the experiment with ``count`` new seeds instead of its own.

    Its runs are further runs of the same arms: nothing else changes, except that trackers and the
    loss path between arms are switched off.

    Raises:
        InputError: if ``count`` is below 1.
    """
    if count < 1:
        raise InputError(f"--train: expected a number of seeds of at least 1, found {count}")
    first = max(experiment.seeds) + 1
    comparison = experiment.comparison.model_copy(update={"loss_path": None})
    return experiment.model_copy(
        update={
            "seeds": list(range(first, first + count)),
            "trackers": [],
            "comparison": comparison,
        }
    )


def calibrate(directory: Path) -> dict[str, Any]:
    """Measure false positives and coverage on the runs of an experiment.

    Measured runs of further seeds in its subdirectory ``calibration`` are included.

    Args:
        directory: of an experiment with measured runs.

    Returns:
        The content of ``calibration.json``.

    Raises:
        InputError: if no arm has four seeds of any score, or the further runs belong to another
            experiment.
    """
    experiment = load_output(directory)
    sources = [(experiment, directory)]
    if (directory / TRAINED / PROVENANCE).is_file():
        sources.append((load_output(directory / TRAINED), directory / TRAINED))
        _check_same(*sources)
    scores, left_out = _collect_scores(sources)
    most = max((len(runs.seeds) for runs in scores.values()), default=0)
    if most < 2 * SIZES[0]:
        reasons = "" if most else "".join(f"\n  {reason}" for reason in left_out)
        raise InputError(
            f"{directory}: A/A compares two halves of one arm's seeds, at least {SIZES[0]} in "
            f"each, so it needs {2 * SIZES[0]} seeds that all have a value; found {most}{reasons}\n"
            f"Train more seeds of every arm: ntpctp calibrate {directory} --train {10 - most}"
        )
    level = experiment.comparison.level
    own = len(experiment.seeds)
    sizes = sorted(size for size in {*SIZES, own} if 2 <= size <= most // 2)
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "experiment": experiment.name,
        "level": level,
        "seeds": experiment.seeds,
        "judged_size": max((size for size in sizes if size <= own), default=sizes[0]),
        "trained_seeds": [seed for other, _ in sources[1:] for seed in other.seeds],
        "false_positives": [asdict(_false_positives(scores, size, level)) for size in sizes],
        "coverage": [asdict(rate) for size in sizes if (rate := _coverage(scores, size, level))],
        "left_out": left_out,
    }
    return {**record, "verdict": verdict_of(record)}


def write_calibration(record: Mapping[str, Any], directory: Path) -> None:
    """Write ``calibration.json``, atomically."""
    write_sealed(directory / CALIBRATION, record)


def read_calibration(directory: Path) -> dict[str, Any] | None:
    """Return the content of ``calibration.json``; None if missing or of another version.

    Raises:
        InputError: if the file is damaged.
    """
    path = directory / CALIBRATION
    if not path.is_file():
        return None
    record = read_sealed(path, f"`ntpctp calibrate {directory}` writes it again")
    return record if record.get("schema_version") == SCHEMA_VERSION else None


def verdict_of(record: Mapping[str, Any]) -> str:
    """Return one sentence on the false positives of experiments of ``judged_size`` seeds."""
    size = record["judged_size"]
    (rate,) = (rate for rate in record["false_positives"] if rate["num_seeds"] == size)
    low, high, nominal = rate["low"], rate["high"], rate["nominal"]
    if low > nominal:
        judged = "more often than nominal: the intervals are too narrow for these scores"
    elif high < nominal:
        judged = "less often than nominal: the intervals are wider than necessary"
    else:
        judged = "no sign that the intervals are wrong"
        if high > 4 * nominal:
            judged += f", but {rate['num_stored']} seeds could hardly reveal one"
    return (
        f"Of A/A comparisons with {size} seeds in each half ({rate['num_comparisons']} scores of "
        f"arms, random splits of {rate['num_stored']} seeds), {rate['rate']:.1%} were called "
        f"different (95% interval {low:.0%} to {high:.0%}, nominal {100 * nominal:g}%): {judged}."
    )


@dataclass(frozen=True)
class SeedScores:
    """One score of one arm over all its seeds."""

    seeds: list[int]
    scores: NDArray[np.float64]  # (S,) or (S, N)
    items: NDArray[np.int64] | None  # numbers of the N items
    largest: float  # largest possible difference

    def same_items(self, other: "SeedScores") -> bool:
        """Return whether both have the same items, or both have none."""
        if self.items is None or other.items is None:
            return self.items is other.items
        return np.array_equal(self.items, other.items)

    def joined(self, other: "SeedScores") -> "SeedScores":
        """Return the seeds of both."""
        scores = np.concatenate([self.scores, other.scores])
        largest = max(self.largest, other.largest)
        return SeedScores([*self.seeds, *other.seeds], scores, self.items, largest)


ScoresByKey = dict[ScoreKey, SeedScores]


def _collect_scores(
    sources: Sequence[tuple[Experiment, Path]],
) -> tuple[ScoresByKey, list[str]]:
    """Return the scores of all sources together, and notes on scores that are left out."""
    scores: ScoresByKey = {}
    left_out: dict[ScoreKey, str] = {}
    for experiment, output in sources:
        for measured in _first_rank(experiment, output):
            for arm in measured.values:
                key = ScoreKey(arm, *(measured.score[c] for c in ("measure", "split", "score")))
                seeds = measured.seeds(experiment.seeds, [arm])
                if reason := _unusable(measured, arm, seeds):
                    left_out[key] = reason
                elif key not in left_out:
                    runs = SeedScores(
                        seeds,
                        measured.array(arm, seeds),
                        measured.item_numbers(arm, seeds),
                        measured.largest,
                    )
                    earlier = scores.get(key)
                    if earlier is None:
                        scores[key] = runs
                    elif earlier.same_items(runs):
                        scores[key] = earlier.joined(runs)
                    else:
                        left_out[key] = "further seeds were measured on other items"
    kept = {key: runs for key, runs in scores.items() if key not in left_out}
    return kept, [f"{k.arm}, {k.split} {k.score}: {reason}" for k, reason in left_out.items()]


def _unusable(measured: ScoreValues, arm: str, seeds: Sequence[int]) -> str | None:
    """Return why the scores of an arm cannot be used; None if they can."""
    missing = len(measured.values[arm]) - len(seeds)
    if missing:  # the seeds that have a value are no random sample
        return f"{missing} seeds without a value"
    return measured.differing_items([arm], seeds)


def _first_rank(experiment: Experiment, output: Path) -> Iterator[ScoreValues]:
    """Yield the scores that the report shows first and that have a better direction."""
    frame = collect(experiment, output)
    last = {name: arm.training.steps for name, arm in experiment.arms.items()}
    final = frame[frame["step"] == frame["arm"].map(last)]
    items = ItemRows(output, rows_keys(frame))
    for _, group in final.groupby(IDENTITY, sort=False, dropna=False):
        row = group.iloc[0]
        stratum = None if pd.isna(row["stratum"]) else str(row["stratum"])
        strength = None if pd.isna(row["strength"]) else float(row["strength"])
        if pd.notna(row["higher_is_better"]) and stands_alone(
            row["measure"], row["split"], stratum, row["score"], strength
        ):
            yield ScoreValues.read(group, last, items)


def _check_same(first: tuple[Experiment, Path], second: tuple[Experiment, Path]) -> None:
    """Refuse further runs with other arms, data, measures, or seeds that the first runs have."""
    (a, path_a), (b, path_b) = first, second
    fingerprints = set()
    for path in (path_a, path_b):
        if (of_path := read_provenance(path).get("data_fingerprint")) is None:
            raise InputError(
                f"{path}: {PROVENANCE} has no fingerprint of the data; {run_again(path)} writes it"
            )
        fingerprints.add(of_path)
    if a.arms != b.arms or a.task != b.task or len(fingerprints) > 1:
        raise InputError(
            f"{path_b}: its runs have other arms or data than those of {path_a}. Delete it and "
            "train it again"
        )
    if a.evaluation.measures != b.evaluation.measures:
        raise InputError(
            f"{path_b}: its runs were measured with other options than those of {path_a}. "
            f"`ntpctp calibrate {path_a} --train {len(b.seeds)}` measures them again"
        )
    if both := sorted(set(a.seeds) & set(b.seeds)):
        raise InputError(
            f"{path_b}: seeds {both} are also in {path_a}. Delete it and train it again"
        )


def _false_positives(scores: ScoresByKey, size: int, level: float) -> PooledRate:
    rates = {
        key: false_positive_rate(
            runs.scores, size, _stream("A/A", key), level=level, largest=runs.largest
        )
        for key, runs in scores.items()
        if len(runs.seeds) >= 2 * size
    }
    mean = float(np.mean([rate.rate for rate in rates.values()]))
    # The scores of one arm come from the same runs, and splits overlap. Independent are only as
    # many pairs of halves per arm as have no seed in common.
    disjoint = {key.arm: rate.num_stored // (2 * size) for key, rate in rates.items()}
    total = sum(disjoint.values())
    low, high = _clopper_pearson(mean * total, total)
    num_experiments = next(iter(rates.values())).num_experiments
    return PooledRate(
        num_seeds=size,
        num_stored=max(rate.num_stored for rate in rates.values()),
        num_comparisons=len(rates),
        rate=mean,
        low=low,
        high=high,
        nominal=1 - level,
        of_normal=1 - level,
        method=f"mean over arms, scores and {num_experiments} random splits of the seeds each; the "
        "interval (Clopper and Pearson) counts only as many pairs of halves as an arm has without "
        f"a common seed, here {total} in {len(disjoint)} arms, because scores of one run are not "
        "independent: it is valid for new seeds, and more stored seeds narrow it",
        each=[{**asdict(key), **asdict(rate)} for key, rate in rates.items()],
    )


def _coverage(scores: ScoresByKey, size: int, level: float) -> PooledRate | None:
    """Return the rate over all pairs of arms; None if no two arms can be paired."""
    rates: list[Calibration] = []
    each: list[dict[str, Any]] = []
    for first, second in combinations(scores, 2):
        score = {"measure": first.measure, "split": first.split, "score": first.score}
        if (first.measure, first.split, first.score) != (
            second.measure,
            second.split,
            second.score,
        ):
            continue
        a, b = scores[first], scores[second]
        if a.seeds != b.seeds or not a.same_items(b) or len(a.seeds) < 2 * size:
            continue
        stream = _stream("coverage", first, second)
        largest = max(a.largest, b.largest)
        rate = coverage(a.scores, b.scores, size, stream, level=level, largest=largest)
        rates.append(rate)
        each.append({"a": first.arm, "b": second.arm, **score, **asdict(rate)})
    if not rates:
        return None
    mean = float(np.mean([rate.rate for rate in rates]))
    num_stored = max(rate.num_stored for rate in rates)
    total = sum(rate.num_experiments for rate in rates)
    low, high = _clopper_pearson(mean * total, total)
    return PooledRate(
        num_seeds=size,
        num_stored=num_stored,
        num_comparisons=len(rates),
        rate=mean,
        low=low,
        high=high,
        nominal=level,
        of_normal=_coverage_of_normal(num_stored, size, level),
        method="seeds and items drawn with replacement from the stored runs, whose mean serves as "
        "the true difference; the interval covers the error of this drawing alone, not new seeds. "
        "With few stored seeds equal draws are frequent, which lowers the rate: compare it with "
        "the rate for as many normal scores, drawn likewise, for which the interval is exact",
        each=each,
    )


@lru_cache(maxsize=64)
def _coverage_of_normal(num_stored: int, size: int, level: float) -> float:
    """Return the mean coverage over 100 populations of normal scores; standard error below 1 %."""
    stream = generator(0, "calibrate", "normal")
    populations = stream.standard_normal((100, num_stored))
    none = np.zeros(num_stored)
    rates = [coverage(p, none, size, stream, level=level, num_experiments=100) for p in populations]
    return float(np.mean([one.rate for one in rates]))


def _stream(kind: str, *keys: ScoreKey) -> np.random.Generator:
    """Return a separate random stream per key, so that adding an arm changes no other number."""
    return generator(0, "calibrate", kind, *(str(asdict(key)) for key in keys))


def _clopper_pearson(count: float, total: int) -> tuple[float, float]:
    """Return the exact 95 % interval; ``count`` may be fractional."""
    low = float(stats.beta.ppf(0.025, count, total - count + 1)) if count > 0 else 0.0
    high = float(stats.beta.ppf(0.975, count + 1, total - count)) if count < total else 1.0
    return low, high
