"""The panel of scores against steps, strengths, factor levels or categories, seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

from ntpctp._core.text import grouped
from ntpctp.report.html import wording
from ntpctp.report.html.curves import Curve
from ntpctp.report.html.figures import categories_figure, curves_figure
from ntpctp.report.html.panel import Panel, panel
from ntpctp.report.html.tables import Table, TableCell, arm_cells

BY_STEPS = "steps"
"""Marks a figure over optimizer steps: the script of the page can move it over tokens."""


@dataclass(frozen=True, kw_only=True)
class CurvePanel:
    """The content of a panel of curves.

    Attributes:
        title: of the figure.
        curves: one for each arm or line, as ``curves.curves`` gives them.
        names: of all arms or lines, in the order of their colours.
        seeds: all seeds, one column of the table each.
        level: of the intervals, in (0, 1).
        score: its name.
        unit: of the score.
        higher_is_better: None: descriptive only.
        axis: title of the horizontal axis.
        column: heading of the table's first column.
        noun: what one curve stands for.
        notes: further parts of the caption.
        warnings: missing values with their reasons.
        log: whether the value axis is logarithmic.
        threshold: value of a dashed line.
        chance: score of guessing; None if unknown. One for the figure, or one for each category.
        categories: names of positions 0, 1, ... with the items of each; None: the axis is numeric.
        over_steps: whether the axis holds optimizer steps.
    """

    title: str
    curves: Sequence[Curve]
    names: Sequence[str]
    seeds: Sequence[int]
    level: float
    score: str
    unit: str
    higher_is_better: bool | None
    axis: str
    column: str
    noun: str = "arm"
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    log: bool = False
    threshold: float | None = None
    chance: float | Sequence[float | None] | None = None
    categories: dict[str, int] | None = None
    over_steps: bool = False

    def build(self) -> Panel:
        """Return the panel: figure, caption, description, table."""
        if self.categories is None:
            level = None if isinstance(self.chance, Sequence) else self.chance
            figure = curves_figure(
                self.curves,
                self.names,
                self.unit,
                self.axis,
                log=self.log,
                threshold=self.threshold,
                chance=level,
            )
        else:
            levels = self.chance if isinstance(self.chance, Sequence) else ()
            categories = list(self.categories)
            figure = categories_figure(
                self.curves, self.names, self.unit, self.axis, categories, levels
            )
        if self.over_steps:
            figure.update_layout(meta=BY_STEPS)
        return panel(
            self.title,
            figure,
            self._table(),
            notes=[
                wording.direction(self.unit, self.higher_is_better),
                *self.notes,
                "logarithmic axis" if self.log else None,
                self._chance_note(),
            ],
            description=self._description(),
            warnings=self.warnings,
            axis=f"{wording.score_label(self.score)}, {wording.shown_unit(self.unit)}",
            lines=() if self.noun == "arm" else tuple(self.names),
        )

    def _chance_note(self) -> str | None:
        words = "dotted: accuracy of guessing among the candidates"
        if isinstance(self.chance, Sequence):
            return words if any(level is not None for level in self.chance) else None
        if self.chance is None:
            return None
        return f"{words}, {wording.value(self.chance, self.unit)}"

    def _description(self) -> str:
        if self.categories is None:
            ends = "; ".join(
                f"{curve.arm} from {wording.value(curve.points[0].mean, self.unit)} to "
                f"{wording.quantity(curve.points[-1].mean, self.unit)}"
                for curve in self.curves
            )
        else:
            names = list(self.categories)
            ends = "; ".join(
                f"{curve.arm}: "
                + ", ".join(
                    f"{names[int(point.x)]} {wording.value(point.mean, self.unit)}"
                    for point in curve.points
                )
                for curve in self.curves
            )
        return f" against {self.axis}; means over seeds: {ends}. The table below has all values."

    def _table(self) -> Table:
        """Return every point: categories with their items, numbers with the numerical error."""
        counted = self.categories is not None
        table = Table(
            f"{self.title}: {wording.shown_unit(self.unit)}",
            (
                self.column,
                *(["items"] if counted else []),
                self.noun,
                "mean",
                f"{wording.percent(self.level)} interval",
                *(f"seed {seed}" for seed in self.seeds),
            ),
            text_columns=frozenset({0, 2} if counted else {1}),
        )
        cells = arm_cells(dict.fromkeys(self.names))
        points = [
            (point.x, order, curve.arm, point)
            for order, curve in enumerate(self.curves)
            for point in curve.points
        ]
        categories = list((self.categories or {}).items())
        for x, _, name, point in sorted(points, key=lambda entry: entry[:2]):
            ends = wording.value_range(point.low, point.high, self.unit) or "none"
            start = [wording.number(x)]
            if counted:
                category, count = categories[int(x)]
                start = [category, grouped(count)]
            each = (self._seed_cell(point.values.get(s), point.bounds.get(s)) for s in self.seeds)
            table.add(*start, cells[name], wording.value(point.mean, self.unit), ends, *each)
        return table

    def _seed_cell(self, value: float | None, bound: float | None) -> TableCell:
        note = "" if bound is None else f"± {wording.number(bound)}"
        return TableCell(wording.value(value, self.unit), note)
