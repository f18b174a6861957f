"""Arms at matched budgets: differences between learning curves at equal cost."""

from ntpctp._core.text import plural
from ntpctp.analysis.comparison import ScoreComparison
from ntpctp.analysis.matched_budget import Axis, MatchedBudget
from ntpctp.report.html import wording
from ntpctp.report.html.headline import label_of
from ntpctp.report.html.tables import Table, TableCell, difference_cell
from ntpctp.report.html.wording import percent

_AXES: dict[Axis, str] = {
    "steps": "optimizer steps",
    "tokens": "tokens read",
    "supervised_tokens": "supervised tokens",
    "flops": "operations (FLOPs)",
}


def matched_table(primary: ScoreComparison | None, level: float, most_pairs: int) -> Table | None:
    """Return the differences of the primary score at matched budgets; None if it has no curve.

    ``comparison.json`` has all pairs of arms, the table the first ``most_pairs``.
    """
    if primary is None or not any(pair.matched for pair in primary.pairs):
        return None
    table = Table(
        f"{label_of(primary)} at matched budgets: differences between the curves with their "
        f"{percent(level)} intervals over seeds, not corrected for their number. The end is the "
        "largest budget that all runs of both arms reached; values between checkpoints are "
        "interpolated linearly, never extrapolated",
        ("arms", "matched on", "end", "at half", "at the end", "on average"),
        text_columns=frozenset({0, 1}),
    )
    for pair in primary.pairs[:most_pairs]:
        names = f"{pair.a} {wording.MINUS} {pair.b}"
        for curves in pair.matched:
            axis = TableCell(_AXES[curves.axis], curves.reason or "")
            table.add(names, axis, *_cells(curves, primary.unit))
    return table


def _cells(curves: MatchedBudget, unit: str) -> list[TableCell | None]:
    if curves.last is None:
        return [None] * 4
    differences = {at.budget / curves.last: at.difference for at in curves.points}
    return [
        TableCell(wording.number(curves.last), plural(len(curves.seeds), "seed")),
        *(difference_cell(differences.get(part), unit) for part in (0.5, 1.0)),
        difference_cell(curves.area, unit),
    ]
