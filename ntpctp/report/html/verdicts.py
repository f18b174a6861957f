"""Tables of verdicts, effect sizes and spread over seeds, for all scores at the last step."""

from collections.abc import Sequence

from ntpctp._core.text import plural
from ntpctp.analysis.comparison import Pair, ScoreComparison
from ntpctp.analysis.scores import IDENTITY, stands_alone
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.headline import is_impossible, label_of, pair_verdict, worst_seed
from ntpctp.report.html.tables import Table, TableCell, arm_cells, difference_cell
from ntpctp.report.html.wording import direction, percent

_DETAILS = ("worst_of_draws_under_", "flip_rate_under_")


def is_tabled(comparison: ScoreComparison) -> bool:
    """Whether the tables of verdicts and spread include a score.

    Of a curve over strengths they include the accuracy alone; figures and ``comparison.json`` have
    the other scores at each strength.
    """
    return not comparison.score.startswith(_DETAILS)


def is_first(comparison: ScoreComparison) -> bool:
    """Whether a score is in the table that is not collapsed."""
    return stands_alone(*(getattr(comparison, field) for field in IDENTITY))


def num_verdicts(comparisons: Sequence[ScoreComparison]) -> int:
    """Return the number of verdicts in the tables."""
    shown = filter(is_tabled, comparisons)
    return sum(pair.verdict is not None for comparison in shown for pair in comparison.pairs)


def verdict_tables(
    experiment: Experiment, comparisons: Sequence[ScoreComparison]
) -> list[tuple[str, str, Table]]:
    """Return, for each pair of arms, the verdicts on all scores at the last step."""
    cells = arm_cells(experiment.arms)
    tables: dict[tuple[str, str], Table] = {}
    for comparison in filter(is_tabled, comparisons):
        unit = comparison.unit
        for pair in comparison.pairs:
            key = pair.a, pair.b
            if key not in tables:
                tables[key] = Table(
                    f"{pair.a} against {pair.b} at the last step: mean over seeds, difference "
                    f"with its {percent(experiment.comparison.level)} interval, verdict",
                    ("score", *key, _names(pair), "verdict", "rests on"),
                    text_columns=frozenset({0, 4, 5}),
                )
            result = pair.difference
            shown = [_level_cell(comparison, name, cells[name].arm) for name in key]
            items = plural(result.num_items, "item") if result and result.num_items else ""
            p = pair.holm_p_value
            corrected = "" if p is None else f"p (Holm) {p:.2g}, {len(comparison.pairs)} pairs"
            notes = _margin(comparison, pair), _detectable(pair, unit), corrected
            tables[key].add(
                _score_cell(comparison),
                *shown,
                difference_cell(result, unit),
                TableCell(pair_verdict(pair, unit), "; ".join(filter(None, notes))),
                TableCell(plural(len(pair.seeds), "seed"), items),
            )
    return [(a, b, table) for (a, b), table in tables.items()]


def _score_cell(comparison: ScoreComparison) -> TableCell:
    note = direction(comparison.unit, comparison.higher_is_better)
    return TableCell(label_of(comparison), note)


def _names(pair: Pair) -> str:
    return f"{pair.a} {wording.MINUS} {pair.b}"


def sizes_table(experiment: Experiment, comparisons: Sequence[ScoreComparison]) -> Table:
    """Return effect sizes and exact tests.

    Hedges' g, the probability that a new seed of the first arm has the larger score, and the exact
    sign-flip test over seeds.
    """
    table = Table(
        f"Effect sizes, with {percent(experiment.comparison.level)} intervals; g (Hedges): mean of "
        "the seeds' differences in units of their standard deviation",
        ("score", "arms", "g", "P(first is larger)", "p (t test)", "p (sign-flip test)"),
        text_columns=frozenset({0, 1}),
    )
    for comparison in filter(is_tabled, comparisons):
        for pair in comparison.pairs:
            result = pair.difference
            if result is None or pair.effect is None:
                continue
            g, chance = pair.effect, result.probability_a_better
            size = TableCell(wording.NO_VALUE, (g.reason or "").partition(": ")[2])
            if g.estimate is not None:
                size = TableCell(wording.number(g.estimate, 3), wording.interval(g.low, g.high, ""))
            larger = TableCell(wording.NO_VALUE, "one seed")
            if chance is not None:
                ends = f"{result.probability_low:.2f} to {result.probability_high:.2f}"
                larger = TableCell(f"{chance:.2f}", ends)
            p_values = (
                wording.NO_VALUE if p is None else wording.p_value(p).removeprefix("p = ")
                for p in (result.p_value, result.sign_flip_p_value)
            )
            table.add(label_of(comparison), _names(pair), size, larger, *p_values)
    return table


def effects_table(experiment: Experiment, comparisons: Sequence[ScoreComparison]) -> Table | None:
    """Return main effects and interactions of the grid's factors; None without a grid."""
    table = Table(
        "Factors at the last step: main effects (mean difference between two levels, over all "
        "other factors) and interactions",
        ("score", "contrast", f"difference, {percent(experiment.comparison.level)}", "p (Holm)"),
        text_columns=frozenset({0, 1}),
    )
    for comparison in comparisons:
        if comparison.strength is not None or comparison.higher_is_better is None:
            continue
        for entry in comparison.effects:
            contrast = TableCell(wording.contrast(entry.effect), plural(len(entry.seeds), "seed"))
            difference = difference_cell(entry.effect.difference, comparison.unit)
            p_value = wording.p_digits(entry.holm_p_value)
            table.add(_score_cell(comparison), contrast, difference, p_value)
    return table if table.rows else None


def spread_table(experiment: Experiment, comparisons: Sequence[ScoreComparison]) -> Table:
    """Return the spread over seeds of every score of every arm at the last step."""
    cells = arm_cells(experiment.arms)
    numbers = ("mean", "median", "sd", "MAD", "worst seed", "best seed")
    table = Table(
        "Spread over seeds at the last step",
        ("score", "arm", "seeds", *numbers, "seeds at target"),
        text_columns=frozenset({0, 1}),
    )
    for comparison in filter(is_tabled, comparisons):
        unit = comparison.unit
        label = label_of(comparison)
        for name, spread in comparison.arms.items():
            if spread is None:
                table.add(label, cells[name], "0", *[None] * 7)
                continue
            worst = worst_seed(comparison, name)
            best = spread.min if worst == spread.max else spread.max
            widths = spread.standard_deviation, spread.median_absolute_deviation
            one_seed = spread.standard_deviation is None
            table.add(
                TableCell(label, wording.shown_unit(unit)),
                cells[name],
                str(spread.num_seeds),
                *(wording.value(x, unit) for x in (spread.mean, spread.median)),
                *("one seed" if one_seed else wording.width(x, unit) for x in widths),
                *(wording.value(x, unit) for x in (worst, best)),
                _at_target(comparison, name),
            )
    return table


def _at_target(comparison: ScoreComparison, name: str) -> TableCell:
    reaching = comparison.reaching.get(name)
    if reaching is None or comparison.target is None:
        return TableCell(wording.NO_VALUE, "no target")
    return TableCell(
        f"{reaching.count} of {reaching.total}",
        f"{'at least' if comparison.higher_is_better else 'at most'} "
        f"{wording.value(comparison.target, comparison.unit)}; interval of the share of seeds: "
        f"{100 * reaching.exact_low:.0f} to {100 * reaching.exact_high:.0f}{wording.SPACE}%",
    )


def spread_tests(comparisons: Sequence[ScoreComparison]) -> Table:
    """Return the tests of equal spread over seeds, for every pair of arms."""
    table = Table(
        "Equal spread over seeds? Ratio of two arms' standard deviations, and a permutation test "
        "on absolute deviations from the median",
        ("score", "arms", "ratio of sd", "p value", "smallest possible p"),
        text_columns=frozenset({0, 1}),
    )
    for comparison in filter(is_tabled, comparisons):
        for pair in comparison.pairs:
            result = pair.spread
            if result is None:
                continue
            p = result.p_value
            shown = TableCell(wording.NO_VALUE, result.reason or "") if p is None else f"{p:.3g}"
            smallest = wording.p_digits(result.smallest_p_value)
            table.add(label_of(comparison), f"{pair.a} / {pair.b}", _ratio(pair), shown, smallest)
    return table


def _ratio(pair: Pair) -> TableCell:
    ratio = pair.spread.sd_ratio if pair.spread else None
    if ratio is not None:
        return TableCell(wording.number(ratio, 3))
    one_seed = pair.spread is None or pair.spread.b.standard_deviation is None
    return TableCell(wording.NO_VALUE, "one seed" if one_seed else f"sd of {pair.b} is 0")


def _level_cell(comparison: ScoreComparison, name: str, arm: int | None) -> TableCell:
    spread = comparison.arms.get(name)
    if spread is None:
        reached = sum(value is not None for value in comparison.values.get(name, {}).values())
        have = "has one" if reached == 1 else "have one"
        has = "reached it" if comparison.unit == "steps" else have
        some = f"only {plural(reached, 'seed')} {has}" if reached else "no seed has one"
        return TableCell(wording.NO_VALUE, some, arm)
    sd = spread.standard_deviation
    note = "one seed" if sd is None else f"sd {wording.width(sd, comparison.unit)}"
    notes = filter(None, [wording.bits(spread.mean, comparison.unit), note])
    return TableCell(wording.value(spread.mean, comparison.unit), "; ".join(notes))


def _margin(comparison: ScoreComparison, pair: Pair) -> str:
    """Return the margin: without one a verdict can never be "no difference"."""
    if pair.verdict is None or pair.verdict.decision == "one seed":
        return ""
    if comparison.margin is None:
        return "no margin stated"
    within = f"margin of ±{wording.width(comparison.margin, comparison.unit)}"
    return f"within the {within}" if pair.verdict.decision == "no difference" else within


def _detectable(pair: Pair, unit: str) -> str:
    smallest = pair.verdict.smallest_detectable_difference if pair.verdict else None
    if smallest is None:
        return ""
    if is_impossible(smallest, pair):
        return f"no possible difference detectable with 80{wording.SPACE}% power"
    size = wording.width(smallest, unit)
    return f"detectable with 80{wording.SPACE}% power: {size}"
