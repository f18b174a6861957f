"""Compare arms at the end of training, from scores and item rows on disk."""

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
    PairedDifference,
    TimeComparison,
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
        frame: from ``checkpoint_scores.collect``.
        output: directory with the item rows.

    Returns:
        One comparison per score, in the order of the measures.
    """
    spec = comparison_spec(experiment, output)
    comparisons = compare_scores(spec, frame, ItemRows(output, rows_keys(frame)))
    return [replace(one, missing=one.missing + _unmeasured(spec, one)) for one in comparisons]


def _unmeasured(spec: ComparisonSpec, comparison: ScoreComparison) -> list[str]:
    """Return notes on runs that lack the score although other runs of their arm have it."""
    return [
        f"{RunId(arm, seed)}: not measured at step {comparison.steps[arm]}"
        for arm, of_arm in comparison.values.items()
        for seed in spec.seeds
        if seed not in of_arm
    ]


def compare_scores(
    spec: ComparisonSpec, frame: pd.DataFrame, items: ItemSource
) -> list[ScoreComparison]:
    """Compare arms, of one or several experiments, on all scores at their last steps.

    Args:
        spec: arms, seeds, level and margins.
        frame: with the columns of ``scores.parquet``; ``arm`` has the names of ``spec``.
        items: reads the values of single items.
    """
    final = frame[frame["step"] == frame["arm"].map(spec.steps)]
    whole = frame[frame["strength"].isna() & frame["stratum"].isna()]
    by_score = dict(iter(whole.groupby(["measure", "split", "score"], sort=False)))
    comparisons = []
    for _, group in final.groupby(IDENTITY, sort=False, dropna=False):
        scores = ScoreValues.read(group, spec.steps, items)
        curves = None
        if has_curve(scores.score, spec.held_out):
            key = tuple(scores.score[column] for column in ("measure", "split", "score"))
            curves = LearningCurves(by_score[key], spec.flops)
        comparisons.append(_compare_score(spec, scores, curves))
    return comparisons


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
    known = {name: scores.known_values(name) for name in names}
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
    seeds = scores.seeds(spec.seeds, (a, b))
    times = scores.times(a, b) if scores.score["unit"] == "steps" else None
    if scores.censored & {a, b}:
        both = [s for s in spec.seeds if all(s in scores.values[arm] for arm in (a, b))]
        reason = _censored_reason(a, b, scores, times)
        return Pair(a, b, both, None, None, None, None, times, reason)
    if not seeds:
        return Pair(a, b, [], None, None, None, None, None, "no seed has a value in both arms")
    if differing_items := scores.differing_items((a, b), seeds):
        return Pair(a, b, seeds, None, None, None, None, times, differing_items)
    rng = scores.stream("comparison", a, b)
    level, largest = spec.level, scores.largest
    scores_a, scores_b = scores.array(a, seeds), scores.array(b, seeds)
    difference = paired_difference(scores_a, scores_b, rng, level=level, largest=largest)
    means = [s.reshape(len(seeds), -1).mean(axis=1) for s in (scores_a, scores_b)]
    unresolved = None
    if times is not None:
        unresolved = _unresolved(difference, scores.resolution(seeds, a, b))
    decided: Verdict | None = None
    if unresolved is None and scores.higher_is_better is not None:
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
        spread(scores.known_values(a), scores.known_values(b), rng, names=(a, b)),
        times,
        unresolved,
        effect=standardised_effect(means[0] - means[1], level),
        mcnemar=_items_by_seed(seeds, scores_a, scores_b),
        matched=matched,
    )


def _censored_reason(a: str, b: str, scores: ScoreValues, times: TimeComparison | None) -> str:
    """Return why arms with a censored seed have no difference: it would ignore the slow seeds."""
    reason = ", ".join(scores.seeds_with_value(arm) for arm in (a, b))
    if times is not None and times.p_value is not None:
        reason += f"; log-rank p = {times.p_value:.2g}"
    elif times is not None and times.reason is not None:
        reason += f"; no log-rank test: {times.reason}"
    return reason


def _unresolved(difference: PairedDifference, resolution: float) -> str | None:
    """Return why a difference of times gets no verdict: it lies between two checkpoints."""
    if abs(difference.estimate) > resolution:
        return None
    return f"closer than checkpoints tell apart ({resolution:.3g} steps); lower evaluation.every"


def _items_by_seed(
    seeds: Sequence[int], a: NDArray[np.float64], b: NDArray[np.float64]
) -> list[SeedItems] | None:
    """Return McNemar's test for each seed; None unless all item scores are 0 or 1."""
    if a.ndim != 2 or not all(((x == 0) | (x == 1)).all() for x in (a, b)):
        return None
    return [SeedItems(seed, *test) for seed, test in zip(seeds, mcnemar(a, b), strict=True)]


def _corrected(pairs: list[Pair], higher: bool | None, margin: float | None) -> list[Pair]:
    """Correct p values and verdicts for the number of pairs, if there are several."""
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
    """Return main effects and interactions of a grid whose arms all have the score."""
    factors = list(next(iter(spec.factors.values()), {}))
    if len(factors) < 2:
        return []
    seeds = scores.seeds(spec.seeds, spec.arms)
    if not seeds or scores.censored:
        return []
    if scores.differing_items(spec.arms, seeds):
        return []  # the pairs carry the reason
    cells = {
        tuple(levels.values()): scores.array(arm, seeds) for arm, levels in spec.factors.items()
    }
    rng = scores.stream("effects")
    effects = factor_effects(cells, factors, rng, level=spec.level, largest=scores.largest)
    adjusted = holm_of_known([effect.difference.p_value for effect in effects])
    return [FactorEffect(e, seeds, p) for e, p in zip(effects, adjusted, strict=True)]
