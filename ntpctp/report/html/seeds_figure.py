"""The figure at the top: every seed of every arm, and below it every difference.

As in an estimation plot (Gardner and Altman 1986), the differences stand on an axis of their own
beside the data that they come from.
"""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ntpctp.analysis.comparison import Pair, ScoreComparison
from ntpctp.report.html.curves import mean_interval
from ntpctp.report.html.figures import (
    CHANCE_LINE,
    HOVER,
    colour,
    finished,
    number_axis,
    symbol,
    text,
)
from ntpctp.report.html.wording import MINUS, difference, is_share, percent, quantity, value

_LONGEST_NAME = 18
_GAP = 62
"""Pixels between the two parts of the figure at the top: room for the upper axis."""


def seeds_figure(
    comparison: ScoreComparison,
    arms: Sequence[str],
    pairs: Sequence[Pair],
    level: float,
    chance: float | None = None,
) -> go.Figure:
    """Return every seed's score by arm and, below, every seed's difference by pair of arms.

    Args:
        comparison: the score.
        arms: all arms of the experiment, for their colours.
        pairs: those to show, each with a difference.
        level: of the intervals of the arms' means.
        chance: the score of guessing, where it is known.
    """
    shown = [name for name in arms if comparison.values.get(name)]
    rows_height, pairs_height = 48 * len(shown), 46 * len(pairs)
    total = rows_height + (_GAP + pairs_height if pairs else 0)
    figure = make_subplots(
        rows=2 if pairs else 1,
        cols=1,
        row_heights=[rows_height, pairs_height] if pairs else [rows_height],
        vertical_spacing=_GAP / total if pairs else 0,
    )
    for row, name in enumerate(shown):
        _add_seeds(figure, comparison, name, arms.index(name), len(shown) - 1 - row, level)
    for row, pair in enumerate(pairs):
        _add_differences(figure, comparison, pair, len(pairs) - 1 - row)
    share = is_share(comparison.unit)
    figure.update_xaxes(**number_axis(share), row=1, col=1)
    if chance is not None:
        figure.update_xaxes(autorangeoptions_include=[chance], row=1, col=1)
        figure.add_vline(chance, line=CHANCE_LINE, layer="below", row=1, col=1)
    figure.update_yaxes(**_name_axis([_short(name) for name in shown]), row=1, col=1)
    if pairs:
        scale, margin = _difference_scale(comparison.unit), comparison.margin or 0.0
        figure.update_xaxes(
            ticksuffix=" pp" if share else "",
            tickangle=0,
            nticks=6,
            range=_range_with_zero(comparison, pairs, margin, scale),
            row=2,
            col=1,
        )
        names = [_pair_name(pair) for pair in pairs]
        figure.update_yaxes(**_name_axis(names), row=2, col=1)
        figure.add_vline(0, line={"color": "var(--ink)", "width": 1}, row=2, col=1)
        if margin:
            figure.add_vrect(
                -margin * scale,
                margin * scale,
                fillcolor="var(--margin)",
                line_width=0,
                layer="below",
                row=2,
                col=1,
            )
    return finished(figure, total + 40, margin={"l": 8, "r": 12, "t": 8, "b": 32})


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
        marker={"color": colour(index), "symbol": symbol(index), "size": 9, "opacity": 0.75},
        customdata=[[seed, value(v, unit)] for seed, v in known.items()],
        hovertemplate=f"{text(name)}, seed %{{customdata[0]}}: %{{customdata[1]}}{HOVER}",
        row=1,
        col=1,
    )
    if len(known) == 1:
        return
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
            "color": colour(index),
            "thickness": 2.5,
            "width": 5,
        }
    figure.add_scatter(
        x=[mean],
        y=[y + 0.27],
        mode="markers",
        error_x=bars,
        marker={
            "color": colour(index),
            "symbol": "diamond",
            "size": 13,
            "line": {"color": "var(--paper)", "width": 1.5},
        },
        hovertemplate=f"{text(name)}, {words}{HOVER}",
        row=1,
        col=1,
    )


def _add_differences(figure: go.Figure, comparison: ScoreComparison, pair: Pair, y: int) -> None:
    result = pair.difference
    if result is None:
        return
    unit = comparison.unit
    scale = _difference_scale(unit)
    found = _differences(comparison, pair)
    names = f"{text(pair.a)} {MINUS} {text(pair.b)}"
    places = _heights(list(found))
    figure.add_scatter(
        x=[scale * d for d in found.values()],
        y=[y + places[seed] for seed in found],
        mode="markers",
        marker={"color": "var(--soft)", "size": 7},
        customdata=[[seed, difference(d, unit)] for seed, d in found.items()],
        hovertemplate=f"{names}, seed %{{customdata[0]}}: %{{customdata[1]}}{HOVER}",
        row=2,
        col=1,
    )
    if len(found) == 1:
        return
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
        hovertemplate=f"{names}, {words}{HOVER}",
        row=2,
        col=1,
    )


def _range_with_zero(
    comparison: ScoreComparison, pairs: Sequence[Pair], margin: float, scale: float
) -> list[float]:
    ends = [0.0, -margin, margin]
    for pair in pairs:
        ends += _differences(comparison, pair).values()
        if pair.difference is not None:
            ends += [e for e in (pair.difference.low, pair.difference.high) if e is not None]
    room = 0.06 * (max(ends) - min(ends)) or 0.01
    return [scale * (min(ends) - room), scale * (max(ends) + room)]


def _differences(comparison: ScoreComparison, pair: Pair) -> dict[int, float]:
    """Return A minus B of every seed that both have."""
    of_a, of_b = comparison.values[pair.a], comparison.values[pair.b]
    found = {seed: (of_a[seed], of_b[seed]) for seed in pair.seeds}
    return {s: a - b for s, (a, b) in found.items() if a is not None and b is not None}


def _heights(seeds: Sequence[int]) -> dict[int, float]:
    """Spread seeds over the lower part of a row, the first on top."""
    step = 0.34 / max(len(seeds) - 1, 1)
    return {seed: 0.03 - step * place for place, seed in enumerate(sorted(seeds))}


def _difference_scale(unit: str) -> float:
    return 100.0 if is_share(unit) else 1.0


def _pair_name(pair: Pair) -> str:
    longest = _LONGEST_NAME
    if len(pair.a) + len(pair.b) > longest:
        longest = 9
    return f"{_short(pair.a, longest)} {MINUS} {_short(pair.b, longest)}"


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    return text(name if len(name) <= longest else f"{name[: longest - 1]}…")


def _name_axis(names: Sequence[str]) -> dict[str, Any]:
    return {
        "tickvals": list(range(len(names))),
        "ticktext": list(reversed(names)),
        "range": [-0.5, len(names) - 0.45],
        "showgrid": False,
        "tickfont": {"size": 13, "color": "var(--ink)"},
    }
