"""The figure at the top: every seed of every arm, and below it every difference.

As in an estimation plot (Gardner and Altman 1986), the differences have an axis of their own beside
the data.
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
    escaped,
    finished,
    number_axis,
    symbol,
)
from ntpctp.report.html.wording import (
    MINUS,
    difference,
    is_share,
    percent,
    quantity,
    value,
    value_range,
)

_LONGEST_NAME = 18
_GAP = 62
"""Pixels between the two parts of the figure: room for the upper axis."""


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
        pairs: pairs of arms to show, each with a difference.
        level: of the intervals of the arms' means.
        chance: score of guessing; None if unknown.
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
    """Add an arm's seeds, and their mean with its interval."""
    known = {s: v for s, v in sorted(comparison.values[name].items()) if v is not None}
    if not known:
        return
    unit = comparison.unit
    # A seed has the same height in every arm, so that equal values do not hide each other.
    heights = _heights(list(comparison.values[name]))
    figure.add_scatter(
        x=list(known.values()),
        y=[y + heights[seed] for seed in known],
        mode="markers",
        marker={"color": colour(index), "symbol": symbol(index), "size": 9, "opacity": 0.75},
        customdata=[[seed, value(v, unit)] for seed, v in known.items()],
        hovertemplate=f"{escaped(name)}, seed %{{customdata[0]}}: %{{customdata[1]}}{HOVER}",
        row=1,
        col=1,
    )
    if len(known) == 1:
        return
    mean = sum(known.values()) / len(known)
    low, high = mean_interval(known.values(), unit, level)
    words = f"{escaped(name)}, mean of {len(known)}: {quantity(mean, unit)}"
    if low is not None:
        words += f"<br>{percent(level)} interval {value_range(low, high, unit)}"
    _add_mean(figure, (low, mean, high), y, colour(index), words, row=1)


def _add_differences(figure: go.Figure, comparison: ScoreComparison, pair: Pair, y: int) -> None:
    """Add the seeds' differences between two arms, and the estimate with its interval."""
    result = pair.difference
    if result is None:
        return
    unit = comparison.unit
    scale = _difference_scale(unit)
    by_seed = _differences(comparison, pair)
    names = f"{escaped(pair.a)} {MINUS} {escaped(pair.b)}"
    heights = _heights(list(by_seed))
    figure.add_scatter(
        x=[scale * d for d in by_seed.values()],
        y=[y + heights[seed] for seed in by_seed],
        mode="markers",
        marker={"color": "var(--soft)", "size": 7},
        customdata=[[seed, difference(d, unit)] for seed, d in by_seed.items()],
        hovertemplate=f"{names}, seed %{{customdata[0]}}: %{{customdata[1]}}{HOVER}",
        row=2,
        col=1,
    )
    if len(by_seed) == 1:
        return
    words = f"{names}, mean: {difference(result.estimate, unit)}"
    if result.low is not None and result.high is not None:
        words += (
            f"<br>{percent(result.level)} interval {difference(result.low, unit)} to "
            f"{difference(result.high, unit)}"
        )
    low, mean, high = (
        None if x is None else scale * x for x in (result.low, result.estimate, result.high)
    )
    assert mean is not None
    _add_mean(figure, (low, mean, high), y, "var(--ink)", words, row=2)


def _add_mean(
    figure: go.Figure,
    estimate: tuple[float | None, float, float | None],
    y: int,
    colour_name: str,
    words: str,
    *,
    row: int,
) -> None:
    """Add a diamond with a bar for its interval, above the points of its row."""
    low, mean, high = estimate
    bars: dict[str, Any] = {}
    if low is not None and high is not None:
        bars = {
            "type": "data",
            "symmetric": False,
            "array": [high - mean],
            "arrayminus": [mean - low],
            "color": colour_name,
            "thickness": 2.5,
            "width": 5,
        }
    figure.add_scatter(
        x=[mean],
        y=[y + 0.27],
        mode="markers",
        error_x=bars,
        marker={
            "color": colour_name,
            "symbol": "diamond",
            "size": 13,
            "line": {"color": "var(--paper)", "width": 1.5},
        },
        hovertemplate=f"{words}{HOVER}",
        row=row,
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
    """Return A minus B of every seed with a value in both arms."""
    of_a, of_b = comparison.values[pair.a], comparison.values[pair.b]
    both = {seed: (of_a[seed], of_b[seed]) for seed in pair.seeds}
    return {s: a - b for s, (a, b) in both.items() if a is not None and b is not None}


def _heights(seeds: Sequence[int]) -> dict[int, float]:
    """Return the heights of seeds in the lower part of an arm's row, the first seed on top."""
    step = 0.34 / max(len(seeds) - 1, 1)
    return {seed: 0.03 - step * index for index, seed in enumerate(sorted(seeds))}


def _difference_scale(unit: str) -> float:
    return 100.0 if is_share(unit) else 1.0


def _pair_name(pair: Pair) -> str:
    longest = _LONGEST_NAME
    if len(pair.a) + len(pair.b) > longest:
        longest = 9
    return f"{_short(pair.a, longest)} {MINUS} {_short(pair.b, longest)}"


def _short(name: str, longest: int = _LONGEST_NAME) -> str:
    return escaped(name if len(name) <= longest else f"{name[: longest - 1]}…")


def _name_axis(names: Sequence[str]) -> dict[str, Any]:
    return {
        "tickvals": list(range(len(names))),
        "ticktext": list(reversed(names)),
        "range": [-0.5, len(names) - 0.45],
        "showgrid": False,
        "tickfont": {"size": 13, "color": "var(--ink)"},
    }
