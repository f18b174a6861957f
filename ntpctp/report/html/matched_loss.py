"""The top eigenvalue against the loss: arms where they are equally far, one figure a split."""

import math
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from ntpctp._core.rng import generator
from ntpctp.analysis.comparison import comparison_spec
from ntpctp.analysis.matched_loss import (
    CurvatureBySeed,
    MatchedLoss,
    compare_at_matched_loss,
    read_curvature,
)
from ntpctp.config import Experiment
from ntpctp.report.html import wording
from ntpctp.report.html.figures import HOVER, colour, finished, line, plain_figure, symbol, text
from ntpctp.report.html.sections import Panel
from ntpctp.report.html.tables import Table
from ntpctp.statistics import PairedDifference

_MOST_WORDS = 3
"""Pairs of arms that are put into words; the table has all."""


def equal_loss_panels(experiment: Experiment, output: Path) -> list[Panel]:
    """Return the figure of every split where some run was measured at two checkpoints."""
    return [
        _panel(experiment, split, arms)
        for split, arms in read_curvature(experiment, output).items()
        if any(len(run) > 1 for runs in arms.values() for run in runs.values())
    ]


def compared(
    experiment: Experiment, split: str, arms: Mapping[str, CurvatureBySeed]
) -> list[MatchedLoss]:
    """Return the comparison of every pair of arms at equal loss."""
    level = experiment.comparison.level
    return [
        compare_at_matched_loss(
            a, arms[a], b, arms[b], generator(0, "equal loss", split, a, b), level=level
        )
        for a, b in comparison_spec(experiment).pairs(arms)
    ]


def equal_loss_table(experiment: Experiment, split: str, found: list[MatchedLoss]) -> Table:
    """Return how many times larger the top eigenvalue of one arm is than that of another."""
    level = wording.percent(experiment.comparison.level)
    table = Table(
        f"Top eigenvalue of the loss on the answer, {split}: A's over B's at equal loss, {level} "
        "t interval over seeds of its logarithm, corrected for nothing",
        (
            "A",
            "B",
            "loss",
            "ratio",
            "interval",
            "p",
            "mean ratio",
            "interval",
            "from loss",
            "seeds",
        ),
        text_columns=frozenset({0, 1}),
    )
    for entry in found:
        seeds = str(len(entry.seeds))
        if entry.at_last is None or entry.mean is None:
            table.add(entry.a, entry.b, entry.reason or "", *[wording.NO_VALUE] * 6, seeds)
            continue
        p = entry.at_last.p_value
        table.add(
            entry.a,
            entry.b,
            wording.quantity(entry.last, "nats"),
            *_ratio(entry.at_last),
            wording.NO_VALUE if p is None else f"{p:.2g}",
            *_ratio(entry.mean),
            wording.quantity(entry.first, "nats"),
            seeds,
        )
    return table


def _ratio(result: PairedDifference) -> tuple[str, str]:
    """Return a ratio and its interval from those of the logarithm."""
    ratio = wording.number(math.exp(result.estimate), 3)
    if result.low is None or result.high is None:
        return ratio, wording.NO_VALUE
    ends = [wording.number(math.exp(end), 3) for end in (result.low, result.high)]
    return ratio, f"[{ends[0]}, {ends[1]}]"


def _panel(experiment: Experiment, split: str, arms: Mapping[str, CurvatureBySeed]) -> Panel:
    title = f"Top eigenvalue against the loss on the answer, {split}"
    figure = go.Figure()
    for name, runs in arms.items():
        index = list(experiment.arms).index(name)
        for seed, run in runs.items():
            known = [point for point in run if point.value is not None and point.value > 0]
            figure.add_scatter(
                x=[point.loss for point in known],
                y=[point.value for point in known],
                mode="lines+markers",
                line={**line(index), "width": 1},
                marker={"color": colour(index), "symbol": symbol(index), "size": 5},
                opacity=0.75,
                customdata=[point.step for point in known],
                hovertemplate=f"{text(name)}, seed {seed}<br>step %{{customdata}}: loss %{{x:.3g}}"
                f", eigenvalue %{{y:.3g}}{HOVER}",
            )
    figure.update_xaxes(
        title_text="loss on the answer, nats per token; training goes to the right",
        title_standoff=6,
        type="log",
        dtick=1,
        tickformat="~g",
        autorange="reversed",
    )
    figure.update_yaxes(type="log", dtick=1, tickformat="~g")
    found = compared(experiment, split, arms)
    words = [_words(entry) for entry in found[:_MOST_WORDS]]
    note = "one line a seed, one mark a checkpoint"
    if len(found) <= _MOST_WORDS:
        note = "; ".join([note, *words])
    return Panel(
        title,
        note,
        f"{'. '.join([title, *words])}.",
        plain_figure(finished(figure, 320)),
        equal_loss_table(experiment, split, found),
        tuple(dict.fromkeys(words for entry in found for words in entry.left_out)),
        axis="top eigenvalue of the loss on the answer",
    )


def _words(entry: MatchedLoss) -> str:
    if entry.at_last is None:
        return f"{entry.a} and {entry.b}: {entry.reason}"
    ratio, ends = _ratio(entry.at_last)
    return (
        f"at a loss of {wording.quantity(entry.last, 'nats')}, where {entry.last_of} ends, that of "
        f"{entry.a} is {ratio} times that of {entry.b} {ends}"
    )
