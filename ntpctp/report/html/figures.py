"""Figures as plotly data. Colours are names of the style sheet: the page fills them in.

``var(--arm-0)`` and the like stand where plotly wants a colour; the script of the page replaces
them by what ``style.css`` says for light, dark or paper, so that the palette is written once.
"""

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ntpctp.report.html.curves import Curve
from ntpctp.report.html.wording import is_share, quantity, value

NUM_COLOURS = 8
"""As many as ``style.css`` defines; further arms repeat them with another dash."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "star", "hexagon", "x")
HOVER = "<extra></extra>"
CHANCE_LINE = {"color": "var(--soft)", "width": 1.5, "dash": "dot"}
_DIGITS = 7
"""Of the numbers in figures: as many as single precision has, and half the size of all."""


def curves_figure(
    found: Sequence[Curve],
    arms: Sequence[str],
    unit: str,
    x_title: str,
    *,
    log: bool,
    threshold: float | None = None,
    chance: float | None = None,
) -> go.Figure:
    """Return curves: a thin line a seed, a thick one for the mean, a band for its interval.

    Args:
        found: one a arm, from ``curves.curves``.
        arms: all arms of the experiment, for their colours.
        unit: of the score.
        x_title: of the axis, with its unit.
        log: whether the axis of values is logarithmic.
        threshold: a value to draw a line at.
        chance: the score of guessing, where it is known.
    """
    figure = go.Figure()
    seen = [v for curve in found for point in curve.points for v in point.values.values()]
    seen += [] if threshold is None else [threshold]
    # A logarithmic axis cannot show an interval down to zero: it ends at the figure's edge.
    floor = min(seen) / 1.6 if log else -math.inf
    for curve in found:
        _add_band(figure, curve, arms.index(curve.arm), floor)
    for curve in found:
        _add_seed_lines(figure, curve, arms.index(curve.arm), unit)
    for curve in found:
        _add_mean(figure, curve, arms.index(curve.arm), unit)
    if threshold is not None:
        figure.add_hline(threshold, line={"color": "var(--soft)", "width": 1, "dash": "dash"})
    if chance is not None:
        # A line of its own, not the axis: where all scores are high it stays in sight.
        figure.update_yaxes(autorangeoptions_include=[chance])
        figure.add_hline(chance, line=CHANCE_LINE)
    figure.update_xaxes(title_text=x_title, title_standoff=6)
    if log:
        ends = [math.log10(floor), math.log10(max(seen) * 1.6)]
        few = ends[1] - ends[0] < 2.5
        figure.update_yaxes(type="log", dtick="D2" if few else 1, tickformat="~g", range=ends)
    else:
        figure.update_yaxes(**number_axis(is_share(unit)))
    return finished(figure, 300)


def levels_figure(
    found: Sequence[Curve],
    arms: Sequence[str],
    unit: str,
    x_title: str,
    levels: Sequence[str],
    chances: Sequence[float | None] = (),
) -> go.Figure:
    """Return points side by side for each of ``levels``: small ones seeds, large ones their mean.

    Args:
        found: one a arm, from ``curves.curves``; the x of a point is the place of its level.
        arms: all arms of the experiment, for their colours.
        unit: of the score.
        x_title: what the levels are of.
        levels: from left to right.
        chances: the score of guessing at each level, where it is known.
    """
    figure = go.Figure()
    width = min(0.22, 0.7 / len(arms))
    shown = "%{y:.1%}" if is_share(unit) else f"%{{y:.4g}} {text(unit)}"
    for curve in found:
        index = arms.index(curve.arm)
        shift = width * (index - (len(arms) - 1) / 2)
        runs = [(p, seed, v) for p in curve.points for seed, v in sorted(p.values.items())]
        figure.add_scatter(
            x=[p.x + shift for p, _, _ in runs],
            y=[v for _, _, v in runs],
            mode="markers",
            opacity=0.55,
            marker={"color": colour(index), "symbol": symbol(index), "size": 5},
            customdata=[[levels[int(p.x)], seed] for p, seed, _ in runs],
            hovertemplate=f"{text(curve.arm)}, seed %{{customdata[1]}}<br>"
            f"%{{customdata[0]}}: {shown}{HOVER}",
        )
        figure.add_scatter(
            x=[p.x + shift for p in curve.points],
            y=[p.mean for p in curve.points],
            mode="markers",
            marker={"color": colour(index), "symbol": "line-ew-open", "size": 18},
            customdata=[
                [
                    levels[int(p.x)],
                    f"mean of {len(p.values)}: {quantity(p.mean, unit)}"
                    + ("" if p.low is None else f", {value(p.low, unit)} to {value(p.high, unit)}"),
                ]
                for p in curve.points
            ],
            hovertemplate=f"{text(curve.arm)}<br>%{{customdata[0]}}: %{{customdata[1]}}{HOVER}",
        )
    for place, chance in enumerate(chances):
        if chance is not None:
            ends = {"x0": place - 0.42, "x1": place + 0.42, "y0": chance, "y1": chance}
            figure.add_shape(type="line", line=CHANCE_LINE, **ends)
    figure.update_yaxes(autorangeoptions_include=[c for c in chances if c is not None])
    figure.update_xaxes(
        title_text=x_title,
        title_standoff=6,
        tickvals=list(range(len(levels))),
        ticktext=[text(name) for name in levels],
        range=[-0.6, len(levels) - 0.4],
    )
    figure.update_yaxes(**number_axis(is_share(unit)))
    return finished(figure, 300)


def losses_figure(
    logs: Mapping[str, Mapping[int, Sequence[tuple[int, float]]]], arms: Sequence[str]
) -> go.Figure:
    """Return training losses: one line a seed, coloured by arm.

    Args:
        logs: arm -> seed -> (step, loss), arms of one objective.
        arms: all arms of the experiment, for their colours.
    """
    figure = go.Figure()
    for name, seeds in logs.items():
        for seed, lines in seeds.items():
            figure.add_scatter(
                x=[step for step, _ in lines],
                y=[loss for _, loss in lines],
                mode="lines",
                line={**line(arms.index(name)), "width": 1.2},
                hovertemplate=f"{text(name)}, seed {seed}<br>step %{{x}}: %{{y:.4g}} nats per "
                f"token{HOVER}",
            )
    figure.update_xaxes(title_text="optimizer step", title_standoff=6)
    figure.update_yaxes(rangemode="tozero")
    return finished(figure, 300)


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
    """Add all seeds as one trace with gaps: the page stays fast with many seeds."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    seeds: list[int | None] = []
    for seed in sorted({seed for point in curve.points for seed in point.values}):
        for point in curve.points:
            if seed in point.values:
                xs.append(point.x)
                ys.append(point.values[seed])
                seeds.append(seed)
        xs.append(None)
        ys.append(None)
        seeds.append(None)
    shown = "%{y:.1%}" if is_share(unit) else f"%{{y:.4g}} {text(unit)}"
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines+markers",
        opacity=0.55,
        line={**line(index), "width": 1},
        marker={"color": colour(index), "symbol": symbol(index), "size": 4},
        customdata=seeds,
        hovertemplate=f"{text(curve.arm)}, seed %{{customdata}}<br>at %{{x}}: {shown}{HOVER}",
        meta=index,
    )


def _add_mean(figure: go.Figure, curve: Curve, index: int, unit: str) -> None:
    if all(len(point.values) == 1 for point in curve.points):
        return
    words = []
    for point in curve.points:
        entry = f"mean of {len(point.values)}: {quantity(point.mean, unit)}"
        if point.low is not None:
            entry += f"<br>interval {value(point.low, unit)} to {value(point.high, unit)}"
        words.append(entry)
    figure.add_scatter(
        x=[point.x for point in curve.points],
        y=[point.mean for point in curve.points],
        mode="lines",
        line={**line(index), "width": 3},
        customdata=words,
        hovertemplate=f"{text(curve.arm)}, %{{customdata}}{HOVER}",
        meta=index,
    )


def finished(figure: go.Figure, height: int, margin: Mapping[str, int] | None = None) -> go.Figure:
    """Give a figure the look that all share; the page adds the font."""
    axes = {
        "gridcolor": "var(--grid)",
        "linecolor": "var(--grid)",
        "zerolinecolor": "var(--grid)",
        "tickcolor": "var(--grid)",
        "automargin": True,
        "fixedrange": True,  # a finger that scrolls the page must not zoom the figure
        "zeroline": False,
    }
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
    """Return the format of an axis of values: shares stay within 0 and 1 (and a point's radius)."""
    return {"tickformat": ".1~%", "minallowed": -0.03, "maxallowed": 1.03} if share else {}


def colour(index: int) -> str:
    """Return the name of an arm's colour."""
    return f"var(--arm-{index % NUM_COLOURS})"


def symbol(index: int) -> str:
    """Return the mark of an arm's seeds: arms differ by more than colour."""
    return _SYMBOLS[index % len(_SYMBOLS)]


def line(index: int) -> dict[str, Any]:
    """Return the look of an arm's lines."""
    return {"color": colour(index), "dash": _DASHES[index // NUM_COLOURS % len(_DASHES)]}


def text(name: str) -> str:
    """Escape a name: plotly reads a part of HTML in its labels."""
    return html.escape(name)


def plain_figure(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as plain JSON values, NaN as null, numbers to seven digits."""
    found: dict[str, Any] = _short(json.loads(figure.to_json()))
    return found


def _short(value: Any) -> Any:
    if isinstance(value, float):
        near = float(f"{value:.{_DIGITS}g}")
        return int(near) if near.is_integer() and abs(near) < 10**_DIGITS else near
    if isinstance(value, list):
        return [_short(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _short(inner) for key, inner in value.items()}
    return value
