"""Arms at the same cost: differences between learning curves where both have spent as much."""

from ntpctp._core.text import plural
from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.analysis.matched_budget import Axis, MatchedBudget
from ntpctp.report.html import wording
from ntpctp.report.html.headline import label_of
from ntpctp.report.html.tables import Table, TableCell
from ntpctp.report.html.wording import percent
from ntpctp.statistics import PairedDifference

_AXES: dict[Axis, str] = {
    "steps": "optimizer steps",
    "tokens": "tokens read",
    "supervised_tokens": "supervised tokens",
    "flops": "operations (FLOPs)",
}


def matched_table(primary: ScoreComparison | None, level: float, most_pairs: int) -> Table | None:
    """Return the differences of the primary score at matched budgets; None if it has no curve.

    Args:
        primary: the score that the page is about.
        level: of the intervals.
        most_pairs: shown; ``comparison.json`` has all.
    """
    if primary is None or not any(pair.matched for pair in primary.pairs):
        return None
    table = Table(
        f"{label_of(primary)} at the same cost: differences between the curves, and their "
        f"{percent(level)} intervals over seeds, none corrected for their number. Half and end are "
        "of the largest cost that all runs of both arms reached; between checkpoints curves are "
        "straight, and nothing is extrapolated",
        ("arms", "at the same", "end", "at half", "at the end", "on average"),
        text_columns=frozenset({0, 1}),
    )
    for pair in primary.pairs[:most_pairs]:
        for found in pair.matched:
            names = f"{pair.a} {wording.MINUS} {pair.b}"
            axis = TableCell(_AXES[found.axis], found.reason or "")
            table.add(names, axis, *_cells(found, primary.unit))
    return table


def _cells(found: MatchedBudget, unit: str) -> list[TableCell]:
    if found.last is None:
        return [TableCell(wording.NO_VALUE)] * 4
    differences = {at.budget / found.last: at.difference for at in found.points}
    return [
        TableCell(wording.number(found.last), plural(len(found.seeds), "seed")),
        *(_cell(differences.get(part), unit) for part in (0.5, 1.0)),
        _cell(found.area, unit),
    ]


def _cell(result: PairedDifference | None, unit: str) -> TableCell:
    if result is None:
        return TableCell(wording.NO_VALUE)
    ends = wording.interval(result.low, result.high, unit)
    return TableCell(wording.difference(result.estimate, unit), ends)
