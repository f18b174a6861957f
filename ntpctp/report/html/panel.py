"""A figure of the page with its caption, the table of its numbers and its description in words."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from ntpctp.report.html.figures import plain_figure
from ntpctp.report.html.tables import Table


@dataclass(frozen=True)
class Panel:
    """A figure with its caption and its table."""

    title: str  # what the figure shows
    note: str  # second line of the caption: unit, counts, direction
    alternative: str  # description for readers who cannot see the figure
    figure: dict[str, Any]  # plotly's data and layout
    table: Table  # the same numbers
    warnings: tuple[str, ...] = ()  # missing values with their reasons
    axis: str = ""  # title of the value axis where the figure stands alone, without its caption
    lines: tuple[str, ...] = ()  # names behind its colours and marks, in order; empty: the arms
    legend: bool = True  # whether the figure needs a legend where it stands alone
    wide: bool = False  # whether it takes both columns of a paper


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
    """Build a panel from plotly's figure and the table of its numbers.

    ``notes`` are parts of the caption's second line, without empty ones; the title begins
    ``description``, too; each of the warnings is shown once.
    """
    note = "; ".join(part for part in notes if part)
    words = tuple(dict.fromkeys(warnings))
    return Panel(title, note, f"{title}{description}", plain_figure(figure), table, words, **form)
