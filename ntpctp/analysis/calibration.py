"""Is the machine honest? A/A comparisons and coverage on an experiment's own runs.

An A/A comparison calls two halves of the seeds of *one* arm A and B: every "better" is false, and
at level 0.95 one in twenty should be. Coverage asks how often the interval of two arms holds the
difference that is known when the stored runs are taken as all there are. Both use the scores that
the report shows first, at the last step, whatever the verdicts were.
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
from ntpctp.analysis.item_scores import ItemRows, rows_keys
from ntpctp.analysis.score_values import ScoreValues
from ntpctp.analysis.scores import IDENTITY, collect, stands_alone
from ntpctp.config import Experiment, load_output
from ntpctp.statistics import Calibration, coverage, false_positive_rate

CALIBRATION = "calibration.json"
TRAINED = "calibration"
"""The subdirectory of an experiment's directory with the runs of other seeds."""
SCHEMA_VERSION = 1

SIZES = (2, 3, 5, 8, 10, 15, 20, 30)
"""Seeds of an experiment that are tried, as far as twice as many are stored."""


@dataclass(frozen=True)
class ScoreKey:
    """One score of one arm: what two halves of its seeds are compared on."""

    arm: str
    measure: str
    split: str
    score: str


@dataclass(frozen=True)
class PooledRate:
    """A rate over arms and scores, beside the one it should be."""

    num_seeds: int  # of each simulated experiment
    num_stored: int  # of an arm: the most
    num_comparisons: int  # arms (coverage: pairs of arms) times scores
    rate: float  # mean over them
    low: float  # 95 %, see ``method``
    high: float
    nominal: float
    of_normal: float  # the rate that this way of measuring gives for normal scores
    method: str
    each: list[dict[str, Any]]  # what was compared, and its ``Calibration``


def with_fresh_seeds(experiment: Experiment, count: int) -> Experiment:
    """Return the same experiment with ``count`` seeds that it does not have.

    Nothing else changes, so that its runs are further runs of the same arms; nothing is tracked,
    and no path between arms is measured.

    Raises:
        InputError: if ``count`` is below 1.
    """
    if count < 1:
        raise InputError(f"--train: expected a number of seeds, at least 1, found {count}")
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

    Runs of other seeds in its subdirectory ``calibration`` count as well, as far as they are
    measured.

    Args:
        directory: of an experiment with measured runs.

    Returns:
        What ``calibration.json`` holds.

    Raises:
        InputError: if no arm has four seeds of any score, or the further runs are of another
            experiment.
    """
    experiment = load_output(directory)
    sources = [(experiment, directory)]
    if (directory / TRAINED / PROVENANCE).is_file():
        sources.append((load_output(directory / TRAINED), directory / TRAINED))
        _check_same(*sources)
    found, left_out = _gathered(sources)
    most = max((len(runs.seeds) for runs in found.values()), default=0)
    if most < 2 * SIZES[0]:
        reasons = "" if most else "".join(f"\n  {words}" for words in left_out)
        raise InputError(
            f"{directory}: A/A compares two halves of one arm's seeds, at least {SIZES[0]} in "
            f"each, so it needs {2 * SIZES[0]} seeds that all have a value; found {most}{reasons}\n"
            f"train more seeds of every arm: ntpctp calibrate {directory} --train {10 - most}"
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
        "false_positives": [asdict(_false_positives(found, size, level)) for size in sizes],
        "coverage": [asdict(rate) for size in sizes if (rate := _coverage(found, size, level))],
        "left_out": left_out,
    }
    return {**record, "verdict": verdict_of(record)}


def write_calibration(record: Mapping[str, Any], directory: Path) -> None:
    """Write ``calibration.json``, atomically."""
    write_sealed(directory / CALIBRATION, record)


def read_calibration(directory: Path) -> dict[str, Any] | None:
    """Return what ``calibration.json`` holds; None where there is none, or of another version.

    Raises:
        InputError: if it is damaged.
    """
    path = directory / CALIBRATION
    if not path.is_file():
        return None
    record = read_sealed(path, f"`ntpctp calibrate {directory}` writes it anew")
    return record if record.get("schema_version") == SCHEMA_VERSION else None


def verdict_of(record: Mapping[str, Any]) -> str:
    """Return one sentence on experiments of as many seeds as this one has, or as were tried."""
    size = record["judged_size"]
    (rate,) = (rate for rate in record["false_positives"] if rate["num_seeds"] == size)
    low, high, nominal = rate["low"], rate["high"], rate["nominal"]
    if low > nominal:
        judged = "more than it should: the intervals are too narrow for these scores"
    elif high < nominal:
        judged = "less than it need: the intervals are wider than they have to be"
    else:
        judged = "no sign that the intervals are wrong"
        if high > 4 * nominal:
            judged += f", but {rate['num_stored']} seeds could hardly show one"
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
    largest: float  # difference that there can be

    def same_items(self, other: "SeedScores") -> bool:
        """Whether both have the same items, or both have none."""
        if self.items is None or other.items is None:
            return self.items is other.items
        return np.array_equal(self.items, other.items)

    def joined(self, other: "SeedScores") -> "SeedScores":
        """Return the seeds of both."""
        scores = np.concatenate([self.scores, other.scores])
        largest = max(self.largest, other.largest)
        return SeedScores([*self.seeds, *other.seeds], scores, self.items, largest)


ScoresByKey = dict[ScoreKey, SeedScores]


def _gathered(sources: Sequence[tuple[Experiment, Path]]) -> tuple[ScoresByKey, list[str]]:
    """Return the scores of all sources together, and what had to be left out."""
    found: ScoresByKey = {}
    left_out: dict[ScoreKey, str] = {}
    for experiment, output in sources:
        for measured in _first_rank(experiment, output):
            for arm, values in measured.values.items():
                subject = ScoreKey(arm, *(measured.score[c] for c in ("measure", "split", "score")))
                seeds = measured.seeds(experiment.seeds, [arm])
                if len(seeds) < len(values):  # those that have a value are not a fair draw
                    left_out[subject] = f"{len(values) - len(seeds)} seeds without a value"
                elif differing_items := measured.differing_items([arm], seeds):
                    left_out[subject] = differing_items
                elif subject not in left_out:
                    numbers = measured.item_numbers(arm, seeds)
                    runs = SeedScores(seeds, measured.array(arm, seeds), numbers, measured.largest)
                    before = found.get(subject)
                    if before is None:
                        found[subject] = runs
                    elif before.same_items(runs):
                        found[subject] = before.joined(runs)
                    else:
                        left_out[subject] = "further seeds were measured on other items"
    kept = {subject: runs for subject, runs in found.items() if subject not in left_out}
    return kept, [f"{s.arm}, {s.split} {s.score}: {why}" for s, why in left_out.items()]


def _first_rank(experiment: Experiment, output: Path) -> Iterator[ScoreValues]:
    """Yield the scores that the report shows first and that one direction is better of."""
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
    """Refuse further runs that are of other arms or data."""
    (a, path_a), (b, path_b) = first, second
    fingerprints = set()
    for path in (path_a, path_b):
        if (of_path := read_provenance(path).get("data_fingerprint")) is None:
            raise InputError(
                f"{path}: {PROVENANCE} does not record its data; {run_again(path)} writes it"
            )
        fingerprints.add(of_path)
    if a.arms != b.arms or a.task != b.task or len(fingerprints) > 1:
        raise InputError(
            f"{path_b}: its runs are of other arms or data than those of {path_a}; delete it and "
            "train it again"
        )
    if a.evaluation.measures != b.evaluation.measures:
        raise InputError(
            f"{path_b}: its runs are measured in other ways than those of {path_a}; "
            f"`ntpctp calibrate {path_a} --train {len(b.seeds)}` measures them anew"
        )
    if both := sorted(set(a.seeds) & set(b.seeds)):
        raise InputError(
            f"{path_b}: has the seeds {both} that {path_a} has too; delete it and train it again"
        )


def _false_positives(found: ScoresByKey, size: int, level: float) -> PooledRate:
    each = [
        (
            subject,
            false_positive_rate(
                runs.scores, size, _stream("A/A", subject), level=level, largest=runs.largest
            ),
        )
        for subject, runs in found.items()
        if len(runs.seeds) >= 2 * size
    ]
    rate = float(np.mean([one.rate for _, one in each]))
    # Scores of one arm are of the same runs, and splits overlap: what is new in each arm is as many
    # pairs of halves as have no seed in common.
    arms = {subject.arm: one.num_stored // (2 * size) for subject, one in each}
    apart = sum(arms.values())
    low, high = _clopper_pearson(rate * apart, apart)
    return PooledRate(
        size,
        max(one.num_stored for _, one in each),
        len(each),
        rate,
        low,
        high,
        1 - level,
        1 - level,
        f"mean over arms, scores and {each[0][1].num_experiments} random splits of the seeds "
        "each; the interval (Clopper and Pearson) counts only as many pairs of halves as an arm "
        f"has without a common seed, here {apart} in {len(arms)} arms, as scores of one run are "
        "not independent: it holds for new seeds, and more stored seeds narrow it",
        [{**asdict(subject), **asdict(one)} for subject, one in each],
    )


def _coverage(found: ScoresByKey, size: int, level: float) -> PooledRate | None:
    """Return the rate over all pairs of arms; None where no two can be paired."""
    each: list[tuple[dict[str, Any], Calibration]] = []
    for first, second in combinations(found, 2):
        names = (first.measure, first.split, first.score)
        if names != (second.measure, second.split, second.score):
            continue
        a, b = found[first], found[second]
        if a.seeds != b.seeds or not a.same_items(b) or len(a.seeds) < 2 * size:
            continue
        what = {"a": first.arm, "b": second.arm} | dict(
            zip(("measure", "split", "score"), names, strict=True)
        )
        stream = _stream("coverage", first, second)
        largest = max(a.largest, b.largest)
        found_rate = coverage(a.scores, b.scores, size, stream, level=level, largest=largest)
        each.append((what, found_rate))
    if not each:
        return None
    rates = [one.rate for _, one in each]
    total = sum(one.num_experiments for _, one in each)
    low, high = _clopper_pearson(float(np.mean(rates)) * total, total)
    return PooledRate(
        size,
        max(one.num_stored for _, one in each),
        len(each),
        float(np.mean(rates)),
        low,
        high,
        level,
        _coverage_of_normal(max(one.num_stored for _, one in each), size, level),
        "seeds and items drawn with replacement from the stored runs, whose mean is taken as the "
        "truth; the interval is of this drawing alone and says nothing on new seeds. Few stored "
        "seeds make a lumpy population, of which such draws are often equal: compare with the rate "
        "of as many normal scores, drawn likewise, for which the interval is exact",
        [{**what, **asdict(one)} for what, one in each],
    )


@lru_cache(maxsize=64)
def _coverage_of_normal(num_stored: int, size: int, level: float) -> float:
    """Return the mean coverage over 100 populations of normal scores; standard error below 1 %."""
    stream = generator(0, "calibrate", "normal")
    populations = stream.standard_normal((100, num_stored))
    none = np.zeros(num_stored)
    rates = [coverage(p, none, size, stream, level=level, num_experiments=100) for p in populations]
    return float(np.mean([one.rate for one in rates]))


def _stream(kind: str, *subjects: ScoreKey) -> np.random.Generator:
    """Return a stream of its own for each subject: adding an arm moves no other number."""
    return generator(0, "calibrate", kind, *(str(asdict(subject)) for subject in subjects))


def _clopper_pearson(count: float, total: int) -> tuple[float, float]:
    """Return the exact 95 % interval, also of a count between whole numbers."""
    low = float(stats.beta.ppf(0.025, count, total - count + 1)) if count > 0 else 0.0
    high = float(stats.beta.ppf(0.975, count + 1, total - count)) if count < total else 1.0
    return low, high
