"""Curves as a table and in words: what a figure shows, for all who read it otherwise."""

from collections.abc import Sequence

from ntpctp.report.html import wording
from ntpctp.report.html.curves import Curve
from ntpctp.report.html.tables import Table, TableCell, arm_cells
from ntpctp.report.html.wording import percent


def curve_table(
    names: Sequence[str],
    seeds: Sequence[int],
    level: float,
    found: Sequence[Curve],
    unit: str,
    title: str,
    x: str,
    noun: str = "arm",
) -> Table:
    """Return the numbers behind a figure of curves.

    Args:
        names: of all curves, for their colours.
        seeds: all, a column each.
        level: of the intervals.
        found: the curves.
        unit: of the values.
        title: of the figure.
        x: what the axis is.
        noun: what a curve is.
    """
    cells = arm_cells(dict.fromkeys(names))
    table = Table(
        f"{title}: {wording.shown_unit(unit)}",
        (
            x,
            noun,
            "mean",
            f"{percent(level)} interval",
            *[f"seed {s}" for s in seeds],
        ),
        text_columns=frozenset({1}),
    )
    rows = [
        (point.x, order, curve, point)
        for order, curve in enumerate(found)
        for point in curve.points
    ]
    for place, _, curve, point in sorted(rows, key=lambda row: row[:2]):
        each = []
        for seed in seeds:
            bound = point.bounds.get(seed)
            each.append(
                TableCell(
                    wording.value(point.values.get(seed), unit),
                    "" if bound is None else f"± {wording.number(bound)}",
                )
            )
        ends = "none"
        if point.low is not None:
            ends = f"{wording.value(point.low, unit)} to {wording.value(point.high, unit)}"
        table.add(
            wording.number(place), cells[curve.arm], wording.value(point.mean, unit), ends, *each
        )
    return table


def described(title: str, axis: str, found: Sequence[Curve], unit: str) -> str:
    """Return what a figure of curves shows, for those who cannot see it."""
    ends = "; ".join(
        f"{curve.arm} from {wording.value(curve.points[0].mean, unit)} to "
        f"{wording.quantity(curve.points[-1].mean, unit)}"
        for curve in found
    )
    return f"{title} against {axis}; means over seeds: {ends}. The table below has all values."
