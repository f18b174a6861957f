"""Arms against each other at the end of training, from files alone."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ntpctp._core.layout import RunId
from ntpctp.analysis.comparison.records import FactorEffect, Pair, ScoreComparison, SeedItems
from ntpctp.analysis.comparison.spec import ComparisonSpec, comparison_spec
from ntpctp.analysis.item_scores import ItemRows, rows_keys
from ntpctp.analysis.matched_budget import LearningCurves, has_curve
from ntpctp.analysis.score_values import ItemSource, ScoreValues
from ntpctp.analysis.scores import IDENTITY
from ntpctp.config import Experiment
from ntpctp.statistics import (
    Verdict,
    describe_spread,
    factor_effects,
    holm_of_known,
    mcnemar,
    paired_difference,
    share_reaching,
    spread,
    standardised_effect,
    verdict,
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
    spec = comparison_spec(experiment, output)
    found = compare_scores(spec, frame, ItemRows(output, rows_keys(frame)))
    return [replace(one, missing=one.missing + _unmeasured(spec, one)) for one in found]


def _unmeasured(spec: ComparisonSpec, found: ScoreComparison) -> list[str]:
    """Name the runs of an experiment without the score where others of their arm have it."""
    return [
        f"{RunId(arm, seed)}: not measured at step {found.steps[arm]}"
        for arm, of_arm in found.values.items()
        for seed in spec.seeds
        if seed not in of_arm
    ]


def compare_scores(
    spec: ComparisonSpec, frame: pd.DataFrame, items: ItemSource
) -> list[ScoreComparison]:
    """Compare arms on all scores at their last steps, whichever experiments they are of.

    Args:
        spec: arms, seeds, level and margins.
        frame: columns as of ``scores.parquet``; ``arm`` has the names of ``spec``.
        items: the values behind the scores that rest on items.
    """
    final = frame[frame["step"] == frame["arm"].map(spec.steps)]
    whole = frame[frame["strength"].isna() & frame["stratum"].isna()]
    by_score = dict(iter(whole.groupby(["measure", "split", "score"], sort=False)))
    found = []
    for _, group in final.groupby(IDENTITY, sort=False, dropna=False):
        scores = ScoreValues.read(group, spec.steps, items)
        curves = None
        if has_curve(scores.score, spec.held_out):
            key = tuple(scores.score[column] for column in ("measure", "split", "score"))
            curves = LearningCurves(by_score[key], spec.flops)
        found.append(_compare_score(spec, scores, curves))
    return found


def _compare_score(
    spec: ComparisonSpec, scores: ScoreValues, curves: LearningCurves | None
) -> ScoreComparison:
    first, names = scores.score, list(scores.values)
    margin = spec.margin.get(first["score"])
    strength = None if pd.isna(first["strength"]) else float(first["strength"])
    target = None
    if strength is None and scores.higher_is_better is not None:
        target = spec.targets.get(first["score"])
    pairs = [_compare_pair(spec, a, b, scores, margin, curves) for a, b in spec.pairs(names)]
    known = {name: scores.known(name) for name in names}
    return ScoreComparison(
        measure=first["measure"],
        split=first["split"],
        stratum=None if pd.isna(first["stratum"]) else str(first["stratum"]),
        score=first["score"],
        strength=strength,
        unit=first["unit"],
        higher_is_better=scores.higher_is_better,
        margin=margin,
        target=target,
        steps={name: scores.last[name] for name in names},
        arms={name: describe_spread(of_arm) if of_arm else None for name, of_arm in known.items()},
        reaching={
            name: share_reaching(
                of_arm,
                target,
                higher_is_better=bool(scores.higher_is_better),
                level=spec.level,
            )
            if of_arm and target is not None
            else None
            for name, of_arm in known.items()
        },
        values=scores.values,
        missing=scores.missing,
        pairs=_corrected(pairs, scores.higher_is_better, margin),
        effects=_effects(spec, scores),
    )


def _compare_pair(
    spec: ComparisonSpec,
    a: str,
    b: str,
    scores: ScoreValues,
    margin: float | None,
    curves: LearningCurves | None,
) -> Pair:
    level, largest = spec.level, scores.largest
    seeds = scores.seeds(spec.seeds, (a, b))
    times = scores.times(a, b) if scores.score["unit"] == "steps" else None
    if scores.censored & {a, b}:
        # A difference between the seeds that arrive would leave out the slow ones.
        arrived = ", ".join(scores.arrived(arm) for arm in (a, b))
        if times is not None and times.p_value is not None:
            arrived += f"; log-rank p = {times.p_value:.2g}"
        elif times is not None and times.reason is not None:
            arrived += f"; no log-rank test: {times.reason}"
        both = [s for s in spec.seeds if all(s in scores.values[arm] for arm in (a, b))]
        return Pair(a, b, both, None, None, None, None, times, arrived)
    if not seeds:
        return Pair(a, b, [], None, None, None, None, None, "no seed has a value in both arms")
    if other_items := scores.other_items((a, b), seeds):
        return Pair(a, b, seeds, None, None, None, None, times, other_items)
    rng = scores.stream("comparison", a, b)
    scores_a, scores_b = scores.of(a, seeds), scores.of(b, seeds)
    difference = paired_difference(scores_a, scores_b, rng, level=level, largest=largest)
    means = [s.reshape(len(seeds), -1).mean(axis=1) for s in (scores_a, scores_b)]
    decided: Verdict | None = None
    reason: str | None = None
    if times is not None and abs(difference.estimate) <= scores.resolution(seeds, a, b):
        reason = (
            f"closer than checkpoints tell apart ({scores.resolution(seeds, a, b):.3g} steps); "
            "lower evaluation.every"
        )
    elif scores.higher_is_better is not None:
        decided = verdict(
            difference, names=(a, b), higher_is_better=scores.higher_is_better, margin=margin
        )
    matched = []
    if curves is not None:
        stream = scores.stream("trajectories", a, b)
        matched = curves.compare(a, b, stream, level=level, largest=largest)
    return Pair(
        a,
        b,
        seeds,
        difference,
        None,
        decided,
        spread(scores.known(a), scores.known(b), rng, names=(a, b)),
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
        for pair, adjusted in zip(pairs, holm_of_known(p_values), strict=True)
    ]


def _effects(spec: ComparisonSpec, scores: ScoreValues) -> list[FactorEffect]:
    """Return main effects and interactions, where all arms of the grid have the score."""
    factors = list(next(iter(spec.factors.values()), {}))
    if len(factors) < 2:
        return []
    seeds = scores.seeds(spec.seeds, spec.arms)
    if not seeds or scores.censored:
        return []
    if scores.other_items(spec.arms, seeds):
        return []  # the pairs say why
    cells = {tuple(levels.values()): scores.of(arm, seeds) for arm, levels in spec.factors.items()}
    rng = scores.stream("effects")
    effects = factor_effects(cells, factors, rng, level=spec.level, largest=scores.largest)
    adjusted = holm_of_known([effect.difference.p_value for effect in effects])
    return [FactorEffect(e, seeds, p) for e, p in zip(effects, adjusted, strict=True)]
