"""The figure at the top: every seed of every arm, and below it every difference.

As in an estimation plot (Gardner and Altman 1986), the differences have an axis of their own beside
the data.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ntpctp.analysis.comparison import Pair, ScoreComparison
from ntpctp.report.html import figures, wording
from ntpctp.report.html.curves import mean_interval
from ntpctp.report.html.figures import HOVER, colour, escaped
from ntpctp.report.html.wording import MINUS, difference, is_share, percent

_UPPER, _LOWER = {"row": 1, "col": 1}, {"row": 2, "col": 1}
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

    ``level`` is that of the intervals of the arms' means; every pair has a difference.
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
    figure.update_xaxes(**figures.number_axis(share), **_UPPER)
    if chance is not None:
        figure.update_xaxes(autorangeoptions_include=[chance], **_UPPER)
        figure.add_vline(chance, line=figures.CHANCE_LINE, layer="below", **_UPPER)
    figure.update_yaxes(**_name_axis([_short(name) for name in shown]), **_UPPER)
    if pairs:
        scale, margin = _difference_scale(comparison.unit), comparison.margin or 0.0
        ends = _range_with_zero(comparison, pairs, margin, scale)
        suffix = " pp" if share else ""
        figure.update_xaxes(ticksuffix=suffix, tickangle=0, nticks=6, range=ends, **_LOWER)
        figure.update_yaxes(**_name_axis([_pair_name(pair) for pair in pairs]), **_LOWER)
        figure.add_vline(0, line={"color": "var(--ink)", "width": 1}, **_LOWER)
        if margin:
            shade = {"fillcolor": "var(--margin)", "line_width": 0, "layer": "below"}
            figure.add_vrect(-margin * scale, margin * scale, **shade, **_LOWER)
    return figures.finished(figure, total + 40, margin={"l": 8, "r": 12, "t": 8, "b": 32})


def _add_seeds(
    figure: go.Figure, comparison: ScoreComparison, name: str, index: int, y: int, level: float
) -> None:
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
        marker={**figures.mark(index), "size": 9, "opacity": 0.75},
        customdata=[[seed, wording.value(v, unit)] for seed, v in known.items()],
        hovertemplate=f"{escaped(name)}, seed %{{customdata[0]}}: %{{customdata[1]}}{HOVER}",
        **_UPPER,
    )
    if len(known) == 1:
        return
    mean = sum(known.values()) / len(known)
    low, high = mean_interval(known.values(), unit, level)
    words = f"{escaped(name)}, mean of {len(known)}: {wording.quantity(mean, unit)}"
    if low is not None:
        words += f"<br>{percent(level)} interval {wording.value_range(low, high, unit)}"
    _add_mean(figure, (low, mean, high), y, colour(index), words, _UPPER)


def _add_differences(figure: go.Figure, comparison: ScoreComparison, pair: Pair, y: int) -> None:
    """Add the seeds' differences between two arms, and the estimate with its interval."""
    result = pair.difference
    if result is None:
        return
    unit, scale = comparison.unit, _difference_scale(comparison.unit)
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
        **_LOWER,
    )
    if len(by_seed) == 1:
        return
    words = f"{names}, mean: {difference(result.estimate, unit)}"
    if result.low is not None and result.high is not None:
        ends = f"{difference(result.low, unit)} to {difference(result.high, unit)}"
        words += f"<br>{percent(result.level)} interval {ends}"
    low, high = (None if x is None else scale * x for x in (result.low, result.high))
    _add_mean(figure, (low, scale * result.estimate, high), y, "var(--ink)", words, _LOWER)


def _add_mean(
    figure: go.Figure,
    estimate: tuple[float | None, float, float | None],
    y: int,
    colour_name: str,
    words: str,
    part: Mapping[str, int],
) -> None:
    """Add a diamond with a bar for its interval, above the points of its row."""
    low, mean, high = estimate
    bars: dict[str, Any] = {}
    if low is not None and high is not None:
        bars = {"type": "data", "symmetric": False, "array": [high - mean]}
        bars |= {"arrayminus": [mean - low], "color": colour_name, "thickness": 2.5, "width": 5}
    edge = {"color": "var(--paper)", "width": 1.5}
    figure.add_scatter(
        x=[mean],
        y=[y + 0.27],
        mode="markers",
        error_x=bars,
        marker={"color": colour_name, "symbol": "diamond", "size": 13, "line": edge},
        hovertemplate=f"{words}{HOVER}",
        **part,
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
    longest = 9 if len(pair.a) + len(pair.b) > _LONGEST_NAME else _LONGEST_NAME
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
