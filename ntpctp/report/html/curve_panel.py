"""The panel of scores against steps, strengths, factor levels or categories, seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

from ntpctp._core.text import grouped
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.curves import Curve
from ntpctp.report.html.figures import categories_figure, curves_figure
from ntpctp.report.html.panel import Panel, panel
from ntpctp.report.html.tables import Table, TableCell, arm_cells

BY_STEPS = "steps"
"""Marks a figure over optimizer steps: the script of the page can move it over tokens."""


@dataclass(frozen=True, kw_only=True)
class CurvePanel:
    """The content of a panel of curves."""

    title: str  # of the figure
    experiment: Experiment
    curves: Sequence[Curve]  # one for each arm or line, as ``curves.curves`` gives them
    score: str  # its name
    unit: str  # of the score
    higher_is_better: bool | None  # None: descriptive only
    axis: str  # title of the horizontal axis
    column: str  # heading of the table's first column
    lines: tuple[str, ...] = ()  # names of all lines, in the order of their colours; empty: arms
    notes: tuple[str, ...] = ()  # further parts of the caption
    warnings: tuple[str, ...] = ()  # missing values with their reasons
    log: bool = False  # whether the value axis is logarithmic
    threshold: float | None = None  # value of a dashed line
    # score of guessing; None if unknown. One for the figure, or one for each category
    chance: float | Sequence[float | None] | None = None
    # names of positions 0, 1, ... with the items of each; None: the axis is numeric
    categories: dict[str, int] | None = None
    over_steps: bool = False  # whether the axis holds optimizer steps

    def build(self) -> Panel:
        """Return the figure with its caption, description and table."""
        drawn = self.curves, self.names, self.unit, self.axis
        if self.categories is None:
            level = None if isinstance(self.chance, Sequence) else self.chance
            figure = curves_figure(*drawn, log=self.log, threshold=self.threshold, chance=level)
        else:
            levels = self.chance if isinstance(self.chance, Sequence) else ()
            figure = categories_figure(*drawn, list(self.categories), levels)
        ends = "; ".join(map(self._ends, self.curves))
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
            description=f" against {self.axis}; means over seeds: {ends}. The table below has all "
            "values.",
            warnings=self.warnings,
            axis=f"{wording.score_label(self.score)}, {wording.shown_unit(self.unit)}",
            lines=self.lines,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all arms or lines, in the order of their colours."""
        return self.lines or tuple(self.experiment.arms)

    def _chance_note(self) -> str | None:
        words = "dotted: accuracy of guessing among the candidates"
        if isinstance(self.chance, Sequence):
            return words if any(level is not None for level in self.chance) else None
        if self.chance is None:
            return None
        return f"{words}, {wording.value(self.chance, self.unit)}"

    def _ends(self, curve: Curve) -> str:
        means = [wording.value(point.mean, self.unit) for point in curve.points]
        if self.categories is None:
            last = wording.quantity(curve.points[-1].mean, self.unit)
            return f"{curve.arm} from {means[0]} to {last}"
        names = list(self.categories)
        each = (f"{names[int(p.x)]} {mean}" for p, mean in zip(curve.points, means, strict=True))
        return f"{curve.arm}: {', '.join(each)}"

    def _table(self) -> Table:
        """Return every point: categories with their items, numbers with the numerical error."""
        seeds, level = self.experiment.seeds, wording.percent(self.experiment.comparison.level)
        categories = list((self.categories or {}).items())
        first = (self.column, "items") if categories else (self.column,)
        name = "line" if self.lines else "arm"
        table = Table(
            f"{self.title}: {wording.shown_unit(self.unit)}",
            (*first, name, "mean", f"{level} interval", *(f"seed {seed}" for seed in seeds)),
            text_columns=frozenset({0, 2} if categories else {1}),
        )
        cells = arm_cells(dict.fromkeys(self.names))
        points = [(curve.arm, point) for curve in self.curves for point in curve.points]
        for arm, point in sorted(points, key=lambda entry: entry[1].x):  # stable: arms in order
            start = [wording.number(point.x)]
            if categories:
                category, count = categories[int(point.x)]
                start = [category, grouped(count)]
            ends = wording.value_range(point.low, point.high, self.unit) or "none"
            each = (self._seed_cell(point.values.get(s), point.bounds.get(s)) for s in seeds)
            table.add(*start, cells[arm], wording.value(point.mean, self.unit), ends, *each)
        return table

    def _seed_cell(self, value: float | None, bound: float | None) -> TableCell:
        note = "" if bound is None else f"± {wording.number(bound)}"
        return TableCell(wording.value(value, self.unit), note)
