"""A figure of the page with its caption, the table of its numbers and its description in words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from ntpctp.report.html.figures import plain_figure
from ntpctp.report.html.tables import Table


@dataclass(frozen=True)
class Panel:
    """A figure with its caption and its table.

    Attributes:
        title: what the figure shows.
        note: second line of the caption: unit, counts, direction.
        alternative: description for readers who cannot see the figure.
        figure: plotly's data and layout.
        table: the same numbers.
        warnings: missing values with their reasons.
        axis: title of the value axis where the figure stands alone, without its caption.
        lines: names behind its colours and marks, in order; empty: the arms.
        legend: whether the figure needs a legend where it stands alone.
        wide: whether it takes both columns of a paper.
    """

    title: str
    note: str
    alternative: str
    figure: dict[str, Any]
    table: Table
    warnings: tuple[str, ...] = ()
    axis: str = ""
    lines: tuple[str, ...] = ()
    legend: bool = True
    wide: bool = False


def panel(
    title: str,
    figure: go.Figure,
    table: Table,
    *,
    notes: Iterable[str | None],
    description: str,
    warnings: Iterable[str] = (),
    **form: Any,
) -> Panel:
    """Build a panel.

    Args:
        title: of the figure; it begins the description, too.
        figure: as plotly has it.
        table: its numbers.
        notes: parts of the caption's second line; empty ones are left out.
        description: what the figure shows, without the title.
        warnings: missing values with their reasons; each is shown once.
        form: ``axis``, ``lines``, ``legend`` and ``wide`` of ``Panel``.
    """
    note = "; ".join(part for part in notes if part)
    words = tuple(dict.fromkeys(warnings))
    return Panel(title, note, f"{title}{description}", plain_figure(figure), table, words, **form)
