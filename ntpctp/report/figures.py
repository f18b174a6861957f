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
from plotly.subplots import make_subplots

from ntpctp.comparison import Pair, ScoreComparison
from ntpctp.report.curves import Curve, mean_interval
from ntpctp.report.wording import MINUS, difference, is_share, percent, quantity, value

NUM_COLOURS = 8
"""As many as ``style.css`` defines; further arms repeat them with another dash."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "star", "hexagon", "x")
_LONGEST_NAME = 18
_HOVER = "<extra></extra>"


def seeds_figure(
    comparison: ScoreComparison, arms: Sequence[str], pairs: Sequence[Pair], level: float
) -> go.Figure:
    """Return every seed's score by arm and, below, every seed's difference by pair of arms.

    Args:
        comparison: the score.
        arms: all arms of the experiment, for their colours.
        pairs: those to show, each with a difference.
        level: of the intervals of the arms' means.
    """
    shown = [name for name in arms if comparison.values.get(name)]
    num_rows = 2 if pairs else 1
    heights = [len(shown), 0.9 * len(pairs)][:num_rows]
    figure = make_subplots(
        rows=num_rows, cols=1, row_heights=heights, vertical_spacing=0.3 if num_rows > 1 else 0
    )
    for row, name in enumerate(shown):
        _add_seeds(figure, comparison, name, arms.index(name), len(shown) - 1 - row, level)
    for row, pair in enumerate(pairs):
        _add_differences(figure, comparison, pair, len(pairs) - 1 - row)
    share = is_share(comparison.unit)
    figure.update_xaxes(**_number_axis(share), row=1, col=1)
    figure.update_yaxes(**_name_axis(shown), row=1, col=1)
    if pairs:
        names = [f"{_short(p.a)} {MINUS} {_short(p.b)}" for p in pairs]
        axis = {"ticksuffix": " pp"} if share else {}
        figure.update_xaxes(**axis, rangemode="tozero", row=2, col=1)
        figure.update_yaxes(**_name_axis(names), row=2, col=1)
        figure.add_vline(0, line={"color": "var(--ink)", "width": 1}, row=2, col=1)
        if comparison.margin is not None:
            margin = comparison.margin * _difference_scale(comparison.unit)
            figure.add_vrect(
                -margin,
                margin,
                fillcolor="var(--margin)",
                line_width=0,
                layer="below",
                row=2,
                col=1,
            )
    height = 96 + 48 * len(shown) + (60 + 46 * len(pairs) if pairs else 0)
    return _finished(figure, height, margin={"l": 8, "r": 12, "t": 8, "b": 32})


def curves_figure(
    found: Sequence[Curve], arms: Sequence[str], unit: str, x_title: str, *, log: bool
) -> go.Figure:
    """Return curves: a thin line a seed, a thick one for the mean, a band for its interval.

    Args:
        found: one a arm, from ``curves.curves``.
        arms: all arms of the experiment, for their colours.
        unit: of the score.
        x_title: of the axis, with its unit.
        log: whether the axis of values is logarithmic.
    """
    figure = go.Figure()
    for curve in found:
        _add_band(figure, curve, arms.index(curve.arm))
    for curve in found:
        _add_seed_lines(figure, curve, arms.index(curve.arm), unit)
    for curve in found:
        _add_mean(figure, curve, arms.index(curve.arm), unit)
    figure.update_xaxes(title_text=x_title, title_standoff=6)
    if log:
        figure.update_yaxes(type="log", dtick=1, exponentformat="power", minor={"dtick": "D1"})
        if _decades(found) < 1.5:
            figure.update_yaxes(dtick="D2", exponentformat="none", minor=None)
    else:
        figure.update_yaxes(**_number_axis(is_share(unit)))
    return _finished(figure, 300)


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
                line={**_line(arms.index(name)), "width": 1.2},
                hovertemplate=f"{_text(name)}, seed {seed}<br>step %{{x}}: %{{y:.4g}} nats per "
                f"token{_HOVER}",
            )
    figure.update_xaxes(title_text="optimizer step", title_standoff=6)
    figure.update_yaxes(rangemode="tozero")
    return _finished(figure, 300)


def _add_seeds(
    figure: go.Figure, comparison: ScoreComparison, name: str, index: int, y: int, level: float
) -> None:
    known = {s: v for s, v in sorted(comparison.values[name].items()) if v is not None}
    if not known:
        return
    unit = comparison.unit
    # A seed has the same height in every arm, so that equal values do not hide each other.
    places = _heights(list(comparison.values[name]))
    figure.add_scatter(
        x=list(known.values()),
        y=[y + places[seed] for seed in known],
        mode="markers",
        marker={"color": _colour(index), "symbol": _symbol(index), "size": 9, "opacity": 0.75},
        customdata=[[seed, value(v, unit)] for seed, v in known.items()],
        hovertemplate=f"{_text(name)}, seed %{{customdata[0]}}: %{{customdata[1]}}{_HOVER}",
        row=1,
        col=1,
    )
    mean = sum(known.values()) / len(known)
    low, high = mean_interval(known.values(), unit, level)
    words = f"mean of {len(known)}: {quantity(mean, unit)}"
    bars: dict[str, Any] = {}
    if low is not None and high is not None:
        words += f"<br>{percent(level)} interval {value(low, unit)} to {value(high, unit)}"
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [high - mean],
            "arrayminus": [mean - low],
            "color": _colour(index),
            "thickness": 2.5,
            "width": 5,
        }
    figure.add_scatter(
        x=[mean],
        y=[y + 0.27],
        mode="markers",
        error_x=bars,
        marker={
            "color": _colour(index),
            "symbol": "diamond",
            "size": 13,
            "line": {"color": "var(--paper)", "width": 1.5},
        },
        hovertemplate=f"{_text(name)}, {words}{_HOVER}",
        row=1,
        col=1,
    )


def _add_differences(figure: go.Figure, comparison: ScoreComparison, pair: Pair, y: int) -> None:
    result = pair.difference
    if result is None:
        return
    unit = comparison.unit
    scale = _difference_scale(unit)
    found = {}
    for seed in pair.seeds:
        a, b = comparison.values[pair.a][seed], comparison.values[pair.b][seed]
        if a is not None and b is not None:
            found[seed] = a - b
    names = f"{_text(pair.a)} {MINUS} {_text(pair.b)}"
    places = _heights(list(found))
    figure.add_scatter(
        x=[scale * d for d in found.values()],
        y=[y + places[seed] for seed in found],
        mode="markers",
        marker={"color": "var(--soft)", "size": 7},
        customdata=[[seed, difference(d, unit)] for seed, d in found.items()],
        hovertemplate=f"{names}, seed %{{customdata[0]}}: %{{customdata[1]}}{_HOVER}",
        row=2,
        col=1,
    )
    words = f"mean: {difference(result.estimate, unit)}"
    bars: dict[str, Any] = {}
    if result.low is not None and result.high is not None:
        words += (
            f"<br>{percent(result.level)} interval {difference(result.low, unit)} to "
            f"{difference(result.high, unit)}"
        )
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [scale * (result.high - result.estimate)],
            "arrayminus": [scale * (result.estimate - result.low)],
            "color": "var(--ink)",
            "thickness": 2.5,
            "width": 5,
        }
    figure.add_scatter(
        x=[scale * result.estimate],
        y=[y + 0.27],
        mode="markers",
        error_x=bars,
        marker={
            "color": "var(--ink)",
            "symbol": "diamond",
            "size": 13,
            "line": {"color": "var(--paper)", "width": 1.5},
        },
        hovertemplate=f"{names}, {words}{_HOVER}",
        row=2,
        col=1,
    )


def _add_band(figure: go.Figure, curve: Curve, index: int) -> None:
    ends = [(p.x, p.low, p.high) for p in curve.points if p.low is not None and p.high is not None]
    if len(ends) < 2:
        return
    figure.add_scatter(
        x=[x for x, _, _ in ends] + [x for x, _, _ in reversed(ends)],
        y=[high for _, _, high in ends] + [low for _, low, _ in reversed(ends)],
        mode="lines",
        line={"width": 0, "color": _colour(index)},
        fill="toself",
        fillcolor=f"var(--arm-{index % NUM_COLOURS}-band)",
        hoverinfo="skip",
    )


def _add_seed_lines(figure: go.Figure, curve: Curve, index: int, unit: str) -> None:
    """Add all seeds as one trace with gaps: the page stays fast with many seeds."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    data: list[list[Any]] = []
    for seed in sorted({seed for point in curve.points for seed in point.values}):
        for point in curve.points:
            if seed in point.values:
                xs.append(point.x)
                ys.append(point.values[seed])
                data.append([seed, quantity(point.values[seed], unit)])
        xs.append(None)
        ys.append(None)
        data.append([None, None])
    figure.add_scatter(
        x=xs,
        y=ys,
        mode="lines+markers",
        opacity=0.55,
        line={**_line(index), "width": 1},
        marker={"color": _colour(index), "symbol": _symbol(index), "size": 4},
        customdata=data,
        hovertemplate=f"{_text(curve.arm)}, seed %{{customdata[0]}}<br>at %{{x}}: "
        f"%{{customdata[1]}}{_HOVER}",
    )


def _add_mean(figure: go.Figure, curve: Curve, index: int, unit: str) -> None:
    if all(len(point.values) == 1 for point in curve.points):
        return
    words = []
    for point in curve.points:
        text = f"mean of {len(point.values)}: {quantity(point.mean, unit)}"
        if point.low is not None:
            text += f"<br>interval {value(point.low, unit)} to {value(point.high, unit)}"
        words.append(text)
    figure.add_scatter(
        x=[point.x for point in curve.points],
        y=[point.mean for point in curve.points],
        mode="lines",
        line={**_line(index), "width": 3},
        customdata=words,
        hovertemplate=f"{_text(curve.arm)}, %{{customdata}}{_HOVER}",
    )


def _finished(figure: go.Figure, height: int, margin: Mapping[str, int] | None = None) -> go.Figure:
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


def _number_axis(share: bool) -> dict[str, Any]:
    return {"tickformat": ".0%"} if share else {}


def _name_axis(names: Sequence[str]) -> dict[str, Any]:
    return {
        "tickvals": list(range(len(names))),
        "ticktext": list(reversed([_short(name) for name in names])),
        "range": [-0.5, len(names) - 0.45],
        "showgrid": False,
        "tickfont": {"size": 13, "color": "var(--ink)"},
    }


def _decades(found: Sequence[Curve]) -> float:
    seen = [v for curve in found for point in curve.points for v in point.values.values()]
    return math.log10(max(seen) / min(seen)) if seen else 0.0


def _heights(seeds: Sequence[int]) -> dict[int, float]:
    """Spread seeds over the lower part of a row, the first on top."""
    step = 0.34 / max(len(seeds) - 1, 1)
    return {seed: 0.03 - step * place for place, seed in enumerate(sorted(seeds))}


def _difference_scale(unit: str) -> float:
    return 100.0 if is_share(unit) else 1.0


def _colour(index: int) -> str:
    return f"var(--arm-{index % NUM_COLOURS})"


def _symbol(index: int) -> str:
    return _SYMBOLS[index % len(_SYMBOLS)]


def _line(index: int) -> dict[str, Any]:
    return {"color": _colour(index), "dash": _DASHES[index // NUM_COLOURS % len(_DASHES)]}


def _short(name: str) -> str:
    cut = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return html.escape(cut)


def _text(name: str) -> str:
    """Escape a name: plotly reads a part of HTML in its labels."""
    return html.escape(name)


def plain_figure(figure: go.Figure) -> dict[str, Any]:
    """Return a figure as plain JSON values, NaN as null."""
    found: dict[str, Any] = json.loads(figure.to_json())
    return found
