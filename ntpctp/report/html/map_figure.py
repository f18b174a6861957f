"""The figure of a map: the difference of two arms in every cell, in the better arm's colour."""

from collections.abc import Mapping, Sequence
from itertools import product

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ntpctp.report.html import map_tables, wording
from ntpctp.report.html.figures import HOVER, NUM_COLOURS, colour, escaped, finished
from ntpctp.report.html.headline import label_of
from ntpctp.report.html.map_cells import PairMap
from ntpctp.report.html.map_tables import estimate_of, named, short
from ntpctp.report.html.panel import Panel, panel

_ROW, _TITLE, _AXIS = 64, 40, 56
"""Pixels: height of a row of cells, space above a part, space below it."""
_UNFIT = "*"


def map_panel(found: PairMap) -> Panel:
    """Return the figure of two arms over a map, with its table.

    Settings have the order of the file: the first from left to right, the second from top to
    bottom, each combination of the others in a part of its own.
    """
    fields = list(found.cells[0].cell.levels)
    x, *rest = fields
    y, across, down = rest[0] if rest else None, rest[1:2], rest[2:]
    labels = {label_of(entry.cell.primary) for entry in found.cells if entry.cell.primary}
    label = labels.pop() if len(labels) == 1 else "scores differ between cells, see the table"
    notes = [
        label,
        f"in each cell: {found.a} minus {found.b}, below it both means",
        "bold: significant after Holm correction over the map",
    ]
    arms = (found.a, found.b)
    if any(map_tables.is_unfit(entry.cell, arm) for entry in found.cells for arm in arms):
        notes.append(f"{_UNFIT}: the arm misses the experiment's target on its own training items")
    return panel(
        f"{found.a} against {found.b}",
        _figure(found, x, y, across, down),
        map_tables.map_table(found),
        notes=notes,
        description=f": {map_tables.summary(found)}",
        legend=False,
        wide=True,
    )


def _figure(
    found: PairMap, x: str, y: str | None, across: Sequence[str], down: Sequence[str]
) -> go.Figure:
    """Draw one part for every combination of the third and further settings."""
    levels = {
        field: list(dict.fromkeys(entry.cell.levels[field] for entry in found.cells))
        for field in found.cells[0].cell.levels
    }
    columns = list(product(*(levels[field] for field in across)))
    rows = list(product(*(levels[field] for field in down)))
    inside = len(levels[y]) if y else 1
    height = len(rows) * (_TITLE + _ROW * inside) + _AXIS
    figure = make_subplots(
        rows=len(rows),
        cols=len(columns),
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=_TITLE / height if len(rows) > 1 else 0,
        subplot_titles=[
            escaped(", ".join(named([*across, *down], [*column, *row])))
            for row, column in product(rows, columns)
        ],
    )
    largest: dict[str, float] = {}  # score -> its largest difference, drawn in full colour
    for entry in found.cells:
        if entry.cell.primary and (size := estimate_of(entry)) is not None:
            label = label_of(entry.cell.primary)
            largest[label] = max(largest.get(label, 0.0), abs(size))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            part = dict(zip([*across, *down], [*column, *row], strict=True))
            figure.add_trace(_part(found, levels, x, y, part, largest), row=i + 1, col=j + 1)
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed")
    figure.update_xaxes(title_text=escaped(short(x)), title_standoff=6, row=len(rows))
    if y:
        figure.update_yaxes(title_text=escaped(short(y)), title_standoff=6, col=1)
    else:
        figure.update_yaxes(showticklabels=False)
    figure.update_annotations(font={"size": 12, "color": "var(--soft-ink)"})
    return finished(figure, height, margin={"l": 8, "r": 12, "t": _TITLE, "b": _AXIS})


def _part(
    found: PairMap,
    levels: Mapping[str, Sequence[str]],
    x: str,
    y: str | None,
    part: Mapping[str, str],
    largest: Mapping[str, float],
) -> go.Heatmap:
    heights = levels[y] if y else [""]
    values: list[list[float | None]] = [[None] * len(levels[x]) for _ in heights]
    words = [["no value"] * len(levels[x]) for _ in heights]
    hovers = [[""] * len(levels[x]) for _ in heights]
    for entry in found.cells:
        own = entry.cell.levels
        if any(own[field] != level for field, level in part.items()):
            continue
        i, j = heights.index(own[y]) if y else 0, levels[x].index(own[x])

        lines = [*named(own, own.values()), map_tables.words_of(entry)]
        hovers[i][j] = "<br>".join(map(escaped, lines))
        primary, estimate = entry.cell.primary, estimate_of(entry)
        if primary is None or estimate is None:
            continue
        # The colour of the better arm, whichever direction of the score is better.
        sign = -1 if primary.higher_is_better is False else 1
        values[i][j] = sign * estimate / (largest[label_of(primary)] or 1.0)
        shown = wording.difference(estimate, primary.unit)
        means = " | ".join(
            wording.value(map_tables.mean_of(entry.cell, arm), primary.unit)
            + (_UNFIT if map_tables.is_unfit(entry.cell, arm) else "")
            for arm in (found.a, found.b)
        )
        words[i][j] = f"{f'<b>{shown}</b>' if entry.better else shown}<br><sub>{means}</sub>"
    first, second = found.indices
    if (second - first) % NUM_COLOURS == 0:
        second += 1  # colours repeat, and two arms of one colour would look the same
    return go.Heatmap(
        x=list(map(escaped, levels[x])),
        y=list(map(escaped, heights)),
        z=values,
        text=words,
        texttemplate="%{text}",
        textfont={"color": "var(--ink)", "size": 12},
        customdata=hovers,
        hovertemplate=f"%{{customdata}}{HOVER}",
        zmin=-1,
        zmax=1,
        colorscale=[[0, colour(second)], [0.5, "var(--paper)"], [1, colour(first)]],
        opacity=0.6,
        showscale=False,
        xgap=3,
        ygap=3,
    )
