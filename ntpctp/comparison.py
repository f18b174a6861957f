"""Arms against each other at the end of training, from files alone: ``comparison.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ntpctp.errors import InputError
from ntpctp.experiment import Experiment
from ntpctp.item_rows import ItemRows, rows_keys
from ntpctp.measured import Items as Items
from ntpctp.measured import Measured
from ntpctp.runs import RunId
from ntpctp.scores import IDENTITY
from ntpctp.statistics import (
    Effect,
    PairedDifference,
    Share,
    Spread,
    SpreadComparison,
    StandardisedEffect,
    TimeComparison,
    Verdict,
    describe_spread,
    factor_effects,
    holm,
    mcnemar,
    paired_difference,
    share_reaching,
    spread,
    standardised_effect,
    verdict,
)
from ntpctp.storage import read_json, rebuilt, write_json
from ntpctp.trajectories import MatchedCurves, Trajectories, has_curve, read_flops

COMPARISON = "comparison.json"
SCHEMA_VERSION = 5


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
    holm_p_value: float | None  # adjusted for all pairs of arms on this score
    verdict: Verdict | None  # None where neither direction is better
    spread: SpreadComparison | None
    times: TimeComparison | None  # of steps to a target: seeds that did not reach it count too
    reason: str | None  # why there is no difference
    effect: StandardisedEffect | None = None  # of the seeds' differences, in their own spread
    mcnemar: list[SeedItems] | None = None  # None: items are not right or wrong
    matched: list[MatchedCurves] = field(default_factory=list)  # of scores with a learning curve


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


@dataclass(frozen=True)
class Asked:
    """What a comparison needs to know beside the scores: of one experiment, or of several joined.

    Attributes:
        steps: arm -> its last step; the order of the arms.
        seeds: in order.
        level: of the intervals.
        margin: per score, the difference that would not matter, in its unit.
        factors: arm -> factor -> level, of a grid; else empty.
        targets: per score, the value that seeds are to reach.
        held_out: the splits on which scores have learning curves.
        flops: arm -> step -> operations of training until there, as far as they are known.
    """

    steps: Mapping[str, int]
    seeds: Sequence[int]
    level: float
    margin: Mapping[str, float]
    factors: Mapping[str, Mapping[str, str]]
    targets: Mapping[str, float]
    held_out: Sequence[str]
    flops: Mapping[str, Mapping[int, float]]

    @property
    def arms(self) -> list[str]:
        """The names."""
        return list(self.steps)


def asked_by(experiment: Experiment, output: Path | None = None) -> Asked:
    """Return what an experiment asks of its comparison; with its directory, its operations too."""
    return Asked(
        {name: arm.training.steps for name, arm in experiment.arms.items()},
        experiment.seeds,
        experiment.comparison.level,
        experiment.comparison.margin,
        experiment.factors,
        experiment.comparison.targets,
        experiment.task.evaluation_splits,
        read_flops(output) if output else {},
    )


def compare(experiment: Experiment, frame: pd.DataFrame, output: Path) -> list[ScoreComparison]:
    """Compare all arms of an experiment on all scores at their last steps.

    Args:
        experiment: names, seeds, level and margins.
        frame: as ``scores.collect`` gives it.
        output: where the item rows are.

    Returns:
        One comparison a score, in the order of the measures.
    """
    asked = asked_by(experiment, output)
    found = compare_scores(asked, frame, ItemRows(output, rows_keys(frame)))
    return [replace(one, missing=one.missing + _unmeasured(asked, one)) for one in found]


def _unmeasured(asked: Asked, found: ScoreComparison) -> list[str]:
    """Name the runs of an experiment without the score where others of their arm have it."""
    return [
        f"{RunId(arm, seed)}: not measured at step {found.steps[arm]}"
        for arm, of_arm in found.values.items()
        for seed in asked.seeds
        if seed not in of_arm
    ]


def compare_scores(asked: Asked, frame: pd.DataFrame, items: Items) -> list[ScoreComparison]:
    """Compare arms on all scores at their last steps, whichever experiments they are of.

    Args:
        asked: arms, seeds, level and margins.
        frame: columns as of ``scores.parquet``; ``arm`` has the names of ``asked``.
        items: the values behind the scores that rest on items.
    """
    final = frame[frame["step"] == frame["arm"].map(asked.steps)]
    whole = frame[frame["strength"].isna() & frame["stratum"].isna()]
    by_score = dict(iter(whole.groupby(["measure", "split", "score"], sort=False)))
    found = []
    for _, group in final.groupby(IDENTITY, sort=False, dropna=False):
        measured = Measured.read(group, asked.steps, items)
        curves = None
        if has_curve(measured.score, asked.held_out):
            key = tuple(measured.score[column] for column in ("measure", "split", "score"))
            curves = Trajectories(by_score[key], asked.flops)
        found.append(_compare_score(asked, measured, curves))
    return found


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
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected an object, found {type(content).__name__}; `ntpctp compare "
            f"{output}` writes it anew from what is measured"
        )
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


def _compare_score(
    asked: Asked, measured: Measured, curves: Trajectories | None
) -> ScoreComparison:
    first, names = measured.score, list(measured.values)
    margin = asked.margin.get(first["score"])
    strength = None if pd.isna(first["strength"]) else float(first["strength"])
    target = None
    if strength is None and measured.higher_is_better is not None:
        target = asked.targets.get(first["score"])
    pairs = [
        _compare_pair(asked, a, b, measured, margin, curves) for a, b in combinations(names, 2)
    ]
    known = {name: measured.known(name) for name in names}
    return ScoreComparison(
        measure=first["measure"],
        split=first["split"],
        stratum=None if pd.isna(first["stratum"]) else str(first["stratum"]),
        score=first["score"],
        strength=strength,
        unit=first["unit"],
        higher_is_better=measured.higher_is_better,
        margin=margin,
        target=target,
        steps={name: measured.last[name] for name in names},
        arms={name: describe_spread(of_arm) if of_arm else None for name, of_arm in known.items()},
        reaching={
            name: share_reaching(
                of_arm,
                target,
                higher_is_better=bool(measured.higher_is_better),
                level=asked.level,
            )
            if of_arm and target is not None
            else None
            for name, of_arm in known.items()
        },
        values=measured.values,
        missing=measured.missing,
        pairs=_corrected(pairs, measured.higher_is_better, margin),
        effects=_effects(asked, measured),
    )


def _compare_pair(
    asked: Asked,
    a: str,
    b: str,
    measured: Measured,
    margin: float | None,
    curves: Trajectories | None,
) -> Pair:
    level, largest = asked.level, measured.largest
    seeds = measured.seeds(asked.seeds, (a, b))
    times = measured.times(a, b) if measured.score["unit"] == "steps" else None
    if measured.censored & {a, b}:
        # A difference between the seeds that arrive would leave out the slow ones.
        arrived = ", ".join(measured.arrived(arm) for arm in (a, b))
        if times is not None and times.p_value is not None:
            arrived += f"; log-rank p = {times.p_value:.2g}"
        elif times is not None and times.reason is not None:
            arrived += f"; no log-rank test: {times.reason}"
        both = [s for s in asked.seeds if all(s in measured.values[arm] for arm in (a, b))]
        return Pair(a, b, both, None, None, None, None, times, arrived)
    if not seeds:
        return Pair(a, b, [], None, None, None, None, None, "no seed has a value in both arms")
    if other_items := measured.other_items((a, b), seeds):
        return Pair(a, b, seeds, None, None, None, None, times, other_items)
    rng = measured.stream("comparison", a, b)
    scores_a, scores_b = measured.of(a, seeds), measured.of(b, seeds)
    difference = paired_difference(scores_a, scores_b, rng, level=level, largest=largest)
    means = [s.reshape(len(seeds), -1).mean(axis=1) for s in (scores_a, scores_b)]
    decided: Verdict | None = None
    reason: str | None = None
    if times is not None and abs(difference.estimate) <= measured.resolution(seeds, a, b):
        reason = (
            f"closer than checkpoints tell apart ({measured.resolution(seeds, a, b):.3g} steps); "
            "lower evaluation.every"
        )
    elif measured.higher_is_better is not None:
        decided = verdict(
            difference, names=(a, b), higher_is_better=measured.higher_is_better, margin=margin
        )
    matched = []
    if curves is not None:
        stream = measured.stream("trajectories", a, b)
        matched = curves.compare(a, b, stream, level=level, largest=largest)
    return Pair(
        a,
        b,
        seeds,
        difference,
        None,
        decided,
        spread(measured.known(a), measured.known(b), rng, names=(a, b)),
        times,
        reason,
        effect=standardised_effect(means[0] - means[1], level),
        mcnemar=_items_by_seed(seeds, scores_a, scores_b),
        matched=matched,
    )


def _items_by_seed(
    seeds: Sequence[int], a: NDArray[np.float64], b: NDArray[np.float64]
) -> list[SeedItems] | None:
    """Return McNemar's test of each seed, where items are right or wrong."""
    if a.ndim != 2 or not all(((x == 0) | (x == 1)).all() for x in (a, b)):
        return None
    return [SeedItems(seed, *test) for seed, test in zip(seeds, mcnemar(a, b), strict=True)]


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


def _effects(asked: Asked, measured: Measured) -> list[FactorEffect]:
    """Return main effects and interactions, where all arms of the grid have the score."""
    factors = list(next(iter(asked.factors.values()), {}))
    if len(factors) < 2:
        return []
    seeds = measured.seeds(asked.seeds, asked.arms)
    if not seeds or measured.censored:
        return []
    if measured.other_items(asked.arms, seeds):
        return []  # the pairs say why
    cells = {
        tuple(levels.values()): measured.of(arm, seeds) for arm, levels in asked.factors.items()
    }
    rng = measured.stream("effects")
    effects = factor_effects(cells, factors, rng, level=asked.level, largest=measured.largest)
    adjusted = _holm([effect.difference.p_value for effect in effects])
    return [FactorEffect(e, seeds, p) for e, p in zip(effects, adjusted, strict=True)]
