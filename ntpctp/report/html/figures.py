"""Figures as plotly data, with the colours of ``style.css`` by name.

Where plotly expects a colour the figures hold ``var(--arm-0)`` and the like. The script of the page
replaces these names by the colours for light, dark or print, so the palette is written once.
"""

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from ntpctp.report.html.curves import Curve, Point
from ntpctp.report.html.wording import is_share, quantity, value_range

NUM_COLOURS = 8
"""Colours of arms in ``style.css``; further arms repeat them with another dash."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "star", "hexagon", "x")
HOVER = "<extra></extra>"
CHANCE_LINE = {"color": "var(--soft)", "width": 1.5, "dash": "dot"}
_DIGITS = 7
"""Significant digits of numbers in figures: those of single precision, in half the bytes."""
HEIGHT = 300
"""Of a figure, pixels."""


@dataclass(frozen=True)
class Line:
    """One thin line: a run, or one direction of a run."""

    x: Sequence[float]  # positions
    y: Sequence[float | None]  # values; None leaves a gap
    hover: str  # label of its points, as plotly's template; text of the user's is escaped
    arm: int | None  # index of the arm whose colour it has; None: the colour of text
    marks: bool = False  # whether every point has a mark
    steps: Sequence[int] | None = None  # of the points, as ``%{customdata}`` of the label


def lines_figure(lines: Iterable[Line], x_title: str, height: int = HEIGHT) -> go.Figure:
    """Return thin lines over one axis; the caller sets the value axis."""
    figure = go.Figure()
    for entry in lines:
        look = {"color": "var(--ink)"} if entry.arm is None else line(entry.arm)
        marker = {**mark(entry.arm or 0), "color": look["color"], "size": 4}
        figure.add_scatter(
            x=entry.x,
            y=entry.y,
            mode="lines+markers" if entry.marks else "lines",
            opacity=0.75,
            line={**look, "width": 1.2},
            marker=marker if entry.marks else None,
            customdata=entry.steps,
            hovertemplate=f"{entry.hover}{HOVER}",
        )
    return finished(figure, height, x_title=x_title)


def curves_figure(
    curves: Sequence[Curve],
    arms: Sequence[str],
    unit: str,
    x_title: str,
    *,
    log: bool,
    threshold: float | None = None,
    chance: float | None = None,
) -> go.Figure:
    """Return curves: a thin line for each seed, a thick one for the mean, a band for its interval.

    ``arms``, all those of the experiment, determine the colours; a dashed line marks the threshold,
    a dotted one the score of guessing.
    """
    figure = go.Figure()
    drawn = [v for curve in curves for point in curve.points for v in point.values.values()]
    drawn += [] if threshold is None else [threshold]
    # A logarithmic axis cannot show an interval down to zero: the band ends at the figure's edge.
    floor = min(drawn) / 1.6 if log else -math.inf
    for curve in curves:
        _add_band(figure, curve, arms.index(curve.arm), floor)
    for curve in curves:
        _add_seed_lines(figure, curve, arms.index(curve.arm), unit)
    for curve in curves:
        _add_mean(figure, curve, arms.index(curve.arm), unit)
    if threshold is not None:
        figure.add_hline(threshold, line={"color": "var(--soft)", "width": 1, "dash": "dash"})
    if chance is not None:
        # Part of the axis range: the line stays visible where all scores are high.
        figure.update_yaxes(autorangeoptions_include=[chance])
        figure.add_hline(chance, line=CHANCE_LINE)
    if log:
        ends = [math.log10(floor), math.log10(max(drawn) * 1.6)]
        few = ends[1] - ends[0] < 2.5
        figure.update_yaxes(type="log", dtick="D2" if few else 1, tickformat="~g", range=ends)
    else:
        figure.update_yaxes(**number_axis(is_share(unit)))
    return finished(figure, HEIGHT, x_title=x_title)


def categories_figure(
    curves: Sequence[Curve],
    arms: Sequence[str],
    unit: str,
    x_title: str,
    categories: Sequence[str],
    chances: Sequence[float | None] = (),
) -> go.Figure:
    """Return points side by side for each category: small ones for seeds, a bar for their mean.

    The x of a curve's points is the index of their category; ``chances`` has the score of guessing
    in each category, None where it is unknown.
    """
    figure = go.Figure()
    width = min(0.22, 0.7 / len(arms))
    shown = _hovered(unit)
    for curve in curves:
        index = arms.index(curve.arm)
        shift = width * (index - (len(arms) - 1) / 2)
        runs = [(p, seed, v) for p in curve.points for seed, v in sorted(p.values.items())]
        figure.add_scatter(
            x=[p.x + shift for p, _, _ in runs],
            y=[v for _, _, v in runs],
            mode="markers",
            opacity=0.55,
            marker={**mark(index), "size": 5},
            customdata=[[categories[int(p.x)], seed] for p, seed, _ in runs],
            hovertemplate=f"{escaped(curve.arm)}, seed %{{customdata[1]}}<br>"
            f"%{{customdata[0]}}: {shown}{HOVER}",
        )
        figure.add_scatter(
            x=[p.x + shift for p in curve.points],
            y=[p.mean for p in curve.points],
            mode="markers",
            marker={"color": colour(index), "symbol": "line-ew-open", "size": 18},
            customdata=[[categories[int(p.x)], _mean_words(p, unit, ", ")] for p in curve.points],
            hovertemplate=f"{escaped(curve.arm)}<br>%{{customdata[0]}}: %{{customdata[1]}}{HOVER}",
        )
    for position, chance in enumerate(chances):
        if chance is not None:
            x = {"x0": position - 0.42, "x1": position + 0.42}
            figure.add_shape(type="line", line=CHANCE_LINE, **x, y0=chance, y1=chance)
    known = [chance for chance in chances if chance is not None]
    figure.update_yaxes(autorangeoptions_include=known, **number_axis(is_share(unit)))
    names, ends = list(map(escaped, categories)), [-0.6, len(categories) - 0.4]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, range=ends)
    return finished(figure, HEIGHT, x_title=x_title)


def _add_band(figure: go.Figure, curve: Curve, index: int, floor: float) -> None:
    ends = [(p.x, p.low, p.high) for p in curve.points if p.low is not None and p.high is not None]
    if len(ends) < 2:
        return
    figure.add_scatter(
        x=[x for x, _, _ in ends] + [x for x, _, _ in reversed(ends)],
        y=[high for _, _, high in ends] + [max(low, floor) for _, low, _ in reversed(ends)],
        mode="lines",
        line={"width": 0, "color": colour(index)},
        fill="toself",
        fillcolor=f"var(--arm-{index % NUM_COLOURS}-band)",
        hoverinfo="skip",
        meta=index,
    )


def _add_seed_lines(figure: go.Figure, curve: Curve, index: int, unit: str) -> None:
    """Add all seeds as one trace with gaps, so that the page stays fast with many seeds."""
    entries: list[tuple[float | None, float | None, int | None]] = []
    for seed in sorted({seed for point in curve.points for seed in point.values}):
        entries += [(p.x, p.values[seed], seed) for p in curve.points if seed in p.values]
        entries.append((None, None, None))
    xs, ys, seeds = zip(*entries, strict=True)
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines+markers",
        opacity=0.55,
        line={**line(index), "width": 1},
        marker={**mark(index), "size": 4},
        customdata=seeds,
        hovertemplate=f"{escaped(curve.arm)}, seed %{{customdata}}<br>"
        f"at %{{x}}: {_hovered(unit)}{HOVER}",
        meta=index,
    )


def _add_mean(figure: go.Figure, curve: Curve, index: int, unit: str) -> None:
    if all(len(point.values) == 1 for point in curve.points):
        return
    figure.add_scatter(
        x=[point.x for point in curve.points],
        y=[point.mean for point in curve.points],
        mode="lines",
        line={**line(index), "width": 3},
        customdata=[_mean_words(point, unit, "<br>interval ") for point in curve.points],
        hovertemplate=f"{escaped(curve.arm)}, %{{customdata}}{HOVER}",
        meta=index,
    )


def _hovered(unit: str) -> str:
    return "%{y:.1%}" if is_share(unit) else f"%{{y:.4g}} {escaped(unit)}"


def _mean_words(point: Point, unit: str, before_interval: str) -> str:
    mean = f"mean of {len(point.values)}: {quantity(point.mean, unit)}"
    ends = value_range(point.low, point.high, unit)
    return f"{mean}{before_interval}{ends}" if ends else mean


def finished(
    figure: go.Figure,
    height: int,
    *,
    x_title: str | None = None,
    margin: Mapping[str, int] | None = None,
) -> go.Figure:
    """Give a figure the style that all share; the page adds the font."""
    lines = ("gridcolor", "linecolor", "zerolinecolor", "tickcolor")
    # fixedrange: scrolling by touch must not zoom the figure
    axes: dict[str, Any] = {"automargin": True, "fixedrange": True, "zeroline": False}
    axes |= dict.fromkeys(lines, "var(--grid)")
    if x_title is not None:
        figure.update_xaxes(title_text=x_title, title_standoff=6)
    figure.update_xaxes(axes)
    figure.update_yaxes(axes)
    figure.update_layout(
        template=go.layout.Template(),
        height=height,
        margin=dict(margin or {"l": 8, "r": 12, "t": 10, "b": 36}),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "var(--soft-ink)", "size": 12},
        hoverlabel={
            "bgcolor": "var(--paper)",
            "bordercolor": "var(--soft)",
            "font": {"color": "var(--ink)", "size": 12},
            "align": "left",
            "namelength": 0,
        },
        hovermode="closest",
        dragmode=False,
        showlegend=False,
    )
    return figure


def number_axis(share: bool) -> dict[str, Any]:
    """Return the format of a value axis: shares stay within 0 and 1, plus the radius of a mark."""
    return {"tickformat": ".1~%", "minallowed": -0.03, "maxallowed": 1.03} if share else {}


def log_axis() -> dict[str, Any]:
    """Return the format of a logarithmic axis with a tick at every power of ten."""
    return {"type": "log", "dtick": 1, "tickformat": "~g"}


def colour(index: int) -> str:
    """Return the name of an arm's colour."""
    return f"var(--arm-{index % NUM_COLOURS})"


def mark(index: int) -> dict[str, Any]:
    """Return the mark of an arm's seeds: arms differ by more than colour."""
    return {"color": colour(index), "symbol": _SYMBOLS[index % len(_SYMBOLS)]}


def line(index: int) -> dict[str, Any]:
    """Return colour and dash of an arm's lines."""
    return {"color": colour(index), "dash": _DASHES[index // NUM_COLOURS % len(_DASHES)]}


def escaped(name: str) -> str:
    """Return a name with HTML escaped: plotly interprets some HTML in labels."""
    return html.escape(name)


def plain_figure(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as plain JSON values, NaN as null, numbers to seven digits."""
    content: dict[str, Any] = _short(json.loads(figure.to_json()))
    return content


def _short(value: Any) -> Any:
    if isinstance(value, float):
        near = float(f"{value:.{_DIGITS}g}")
        return int(near) if near.is_integer() and abs(near) < 10**_DIGITS else near
    if isinstance(value, list):
        return [_short(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    return value
