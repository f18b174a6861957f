"""One section a measure: its figures, the table behind each, and the verdicts on its scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ntpctp.comparison import ScoreComparison
from ntpctp.experiment import Experiment
from ntpctp.report import wording
from ntpctp.report.curves import Curve, band_words, curves
from ntpctp.report.figures import curves_figure, plain_figure
from ntpctp.report.headline import verdict_words, worst_seed
from ntpctp.report.tables import Cell, Table, arm_cells
from ntpctp.report.wording import full_label, is_share, percent, plural, score_label

STEP, STRENGTH = "optimizer step", "strength of the noise, in standard deviations of the embeddings"


@dataclass(frozen=True)
class Panel:
    """A figure with its words and the table behind it.

    Attributes:
        title: what it shows.
        note: unit, counts, direction.
        alternative: for those who cannot see it.
        figure: plotly's data, layout.
        table: the same numbers.
    """

    title: str
    note: str
    alternative: str
    figure: dict[str, Any]
    table: Table
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """All that the page says about one measure."""

    name: str
    words: str
    panels: list[Panel]


def measure_sections(experiment: Experiment, frame: pd.DataFrame) -> list[Section]:
    """Return the section of each measure of the experiment."""
    sections = []
    for measure in experiment.evaluation.measures:
        scores = frame[frame["measure"] == measure.name]
        panels = [
            _panel(experiment, group, str(split), str(score))
            for (split, score), group in _in_order(scores).groupby(["split", "score"], sort=False)
            if _worth_a_figure(group)
        ]
        words = band_words(len(experiment.seeds), experiment.comparison.level)
        sections.append(Section(measure.name, words, panels))
    return sections


def verdict_tables(
    experiment: Experiment, comparisons: Sequence[ScoreComparison]
) -> list[tuple[str, str, Table]]:
    """Return, for each pair of arms, the verdicts on all scores at the last step."""
    cells = arm_cells(experiment.arms)
    tables: dict[tuple[str, str], Table] = {}
    for comparison in comparisons:
        unit = comparison.unit
        for pair in comparison.pairs:
            key = pair.a, pair.b
            if key not in tables:
                tables[key] = Table(
                    f"{pair.a} against {pair.b} at the last step: mean over seeds, difference "
                    f"with its {percent(experiment.comparison.level)} interval, verdict",
                    (
                        "score",
                        pair.a,
                        pair.b,
                        f"{pair.a} {wording.MINUS} {pair.b}",
                        "verdict",
                        "rests on",
                    ),
                    text_columns=frozenset({0, 4, 5}),
                )
            result = pair.difference
            shown = [_level_cell(comparison, name, cells[name].arm) for name in key]
            if result is None:
                change = Cell(wording.NO_VALUE, pair.reason or "")
            else:
                change = Cell(
                    wording.difference(result.estimate, unit),
                    wording.interval(result.low, result.high, unit),
                )
            items = plural(result.num_items, "item") if result and result.num_items else ""
            tables[key].add(
                Cell(
                    full_label(comparison.split, comparison.score, comparison.strength),
                    _direction(comparison.unit, comparison.higher_is_better),
                ),
                *shown,
                change,
                Cell(verdict_words(pair, unit), _detectable(pair, unit)),
                Cell(plural(len(pair.seeds), "seed"), items),
            )
    return [(a, b, table) for (a, b), table in tables.items()]


def spread_table(experiment: Experiment, comparisons: Sequence[ScoreComparison]) -> Table:
    """Return how every score of every arm varies from seed to seed at the last step."""
    cells = arm_cells(experiment.arms)
    table = Table(
        "Spread over seeds at the last step",
        ("score", "arm", "seeds", "mean", "median", "sd", "MAD", "worst seed", "best seed"),
        text_columns=frozenset({0, 1}),
    )
    for comparison in comparisons:
        unit = comparison.unit
        label = full_label(comparison.split, comparison.score, comparison.strength)
        for name, spread in comparison.arms.items():
            if spread is None:
                table.add(label, cells[name], "0", *[wording.NO_VALUE] * 6)
                continue
            worst = worst_seed(comparison, name)
            best = spread.min if worst == spread.max else spread.max
            sd = spread.standard_deviation
            table.add(
                Cell(label, wording.shown_unit(unit)),
                cells[name],
                str(spread.num_seeds),
                wording.value(spread.mean, unit),
                wording.value(spread.median, unit),
                "one seed" if sd is None else wording.width(sd, unit),
                "one seed" if sd is None else wording.width(spread.median_absolute_deviation, unit),
                wording.value(worst, unit),
                wording.value(best, unit),
            )
    return table


def spread_tests(comparisons: Sequence[ScoreComparison]) -> Table:
    """Return the tests whether two arms spread alike over seeds."""
    table = Table(
        "Do two arms depend on the seed alike? Ratio of their standard deviations, and a "
        "permutation test on absolute deviations from the median",
        ("score", "arms", "ratio of sd", "p value", "smallest possible p"),
        text_columns=frozenset({0, 1}),
    )
    for comparison in comparisons:
        for pair in comparison.pairs:
            result = pair.spread
            if result is None:
                continue
            p, least = result.p_value, result.smallest_p_value
            table.add(
                full_label(comparison.split, comparison.score, comparison.strength),
                f"{pair.a} / {pair.b}",
                "no value" if result.sd_ratio is None else wording.number(result.sd_ratio),
                Cell("no value", result.reason or "") if p is None else f"{p:.3g}",
                "no value" if least is None else f"{least:.2g}",
            )
    return table


def _in_order(scores: pd.DataFrame) -> pd.DataFrame:
    """Put what the verdict is about first: held-out splits before the training split."""
    held_out = (scores["split"] == "train").rename("train")
    return scores.assign(_train=held_out).sort_values("_train", kind="stable")


def _worth_a_figure(scores: pd.DataFrame) -> bool:
    """Leave a score that never moves to the tables."""
    return scores["value"].nunique() > 1


def _panel(experiment: Experiment, scores: pd.DataFrame, split: str, score: str) -> Panel:
    arms, level = list(experiment.arms), experiment.comparison.level
    first = scores.iloc[0]
    unit = str(first["unit"])
    by_strength = scores["strength"].notna().any()
    if by_strength:
        last = {name: arm.training.steps for name, arm in experiment.arms.items()}
        scores = scores[scores["step"] == scores["arm"].map(last)]
    found = curves(scores, arms, "strength" if by_strength else "step", level)
    title = f"{score_label(score)[0].upper()}{score_label(score)[1:]}, {split}"
    higher = None if pd.isna(first["higher_is_better"]) else bool(first["higher_is_better"])
    counts = wording.span(scores["count"].unique().tolist())
    seeds = plural(len(experiment.seeds), "seed")
    note = f"{_direction(unit, higher)}; {counts} items, {seeds} an arm"
    log = not is_share(unit) and _spans_a_decade(found)
    if str(first["measure"]) == "flatness":
        log = _all_positive(found)
    if log:
        note += "; logarithmic axis"
    axis = STRENGTH if by_strength else STEP
    return Panel(
        title,
        note,
        _alternative(title, axis, found, unit),
        plain_figure(curves_figure(found, arms, unit, axis, log=log)),
        _curve_table(experiment, found, unit, title, "strength" if by_strength else "step"),
        _warnings(scores),
    )


def _curve_table(
    experiment: Experiment, found: Sequence[Curve], unit: str, title: str, x: str
) -> Table:
    cells = arm_cells(experiment.arms)
    table = Table(
        f"{title}: {wording.shown_unit(unit)}",
        (
            x,
            "arm",
            "mean",
            f"{percent(experiment.comparison.level)} interval",
            *[f"seed {s}" for s in experiment.seeds],
        ),
        text_columns=frozenset({1}),
    )
    rows = [
        (point.x, order, curve, point)
        for order, curve in enumerate(found)
        for point in curve.points
    ]
    for place, _, curve, point in sorted(rows, key=lambda row: row[:2]):
        seeds = []
        for seed in experiment.seeds:
            bound = point.bounds.get(seed)
            seeds.append(
                Cell(
                    wording.value(point.values.get(seed), unit),
                    "" if bound is None else f"± {wording.number(bound)}",
                )
            )
        ends = "none"
        if point.low is not None:
            ends = f"{wording.value(point.low, unit)} to {wording.value(point.high, unit)}"
        table.add(
            wording.number(place), cells[curve.arm], wording.value(point.mean, unit), ends, *seeds
        )
    return table


def _alternative(title: str, axis: str, found: Sequence[Curve], unit: str) -> str:
    ends = "; ".join(
        f"{curve.arm} from {wording.value(curve.points[0].mean, unit)} to "
        f"{wording.quantity(curve.points[-1].mean, unit)}"
        for curve in found
    )
    return f"{title} against {axis}; means over seeds: {ends}. The table below has all values."


def _warnings(scores: pd.DataFrame) -> tuple[str, ...]:
    return tuple(
        f"{row['arm']}, seed {row['seed']}, step {row['step']}: {row['reason']}"
        for row in scores[scores["value"].isna()].to_dict("records")
    )


def _direction(unit: str, higher_is_better: bool | None) -> str:
    words = {True: "higher is better", False: "lower is better", None: "neither is better"}
    return f"{wording.shown_unit(unit)}; {words[higher_is_better]}"


def _level_cell(comparison: ScoreComparison, name: str, arm: int | None) -> Cell:
    spread = comparison.arms.get(name)
    if spread is None:
        return Cell(wording.NO_VALUE, "no seed has one", arm)
    sd = spread.standard_deviation
    note = "one seed" if sd is None else f"sd {wording.width(sd, comparison.unit)}"
    return Cell(wording.value(spread.mean, comparison.unit), note)


def _detectable(pair: Any, unit: str) -> str:
    if pair.verdict is None or pair.verdict.smallest_detectable_difference is None:
        return ""
    seen = wording.width(pair.verdict.smallest_detectable_difference, unit)
    return f"could have seen {seen}"


def _all_positive(found: Sequence[Curve]) -> bool:
    seen = [v for curve in found for point in curve.points for v in point.values.values()]
    return bool(seen) and min(seen) > 0


def _spans_a_decade(found: Sequence[Curve]) -> bool:
    seen = [v for curve in found for point in curve.points for v in point.values.values()]
    return _all_positive(found) and max(seen) > 10 * min(seen)
