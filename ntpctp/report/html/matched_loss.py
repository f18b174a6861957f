"""The top eigenvalue against the loss: arms compared at equal loss, one figure for each split."""

import math
from collections.abc import Mapping
from pathlib import Path

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
from ntpctp.report.html.figures import Line, escaped, lines_figure, log_axis
from ntpctp.report.html.panel import Panel, panel
from ntpctp.report.html.tables import Table
from ntpctp.statistics import PairedDifference

_MOST_PAIRS = 3
"""Pairs of arms in the caption; the table has all."""


def matched_loss_panels(experiment: Experiment, output: Path) -> list[Panel]:
    """Return the figure of every split where some run was measured at two checkpoints."""
    return [
        _panel(experiment, split, arms)
        for split, arms in read_curvature(experiment, output).items()
        if any(len(run) > 1 for runs in arms.values() for run in runs.values())
    ]


def matched_loss_pairs(
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


def matched_loss_table(experiment: Experiment, split: str, pairs: list[MatchedLoss]) -> Table:
    """Return the ratio of the top eigenvalues of every two arms at equal loss."""
    level = wording.percent(experiment.comparison.level)
    table = Table(
        f"Top eigenvalue of the loss on the answer, {split}: ratio A / B at equal loss, {level} "
        "t interval over seeds of its logarithm, not corrected for the number of pairs",
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
    for pair in pairs:
        seeds = str(len(pair.seeds))
        if pair.at_last is None or pair.mean is None:
            table.add(pair.a, pair.b, pair.reason or "", *[None] * 6, seeds)
            continue
        table.add(
            pair.a,
            pair.b,
            wording.quantity(pair.last, "nats"),
            *_ratio(pair.at_last),
            wording.p_digits(pair.at_last.p_value),
            *_ratio(pair.mean),
            wording.quantity(pair.first, "nats"),
            seeds,
        )
    return table


def _ratio(result: PairedDifference) -> tuple[str, str]:
    """Return a ratio and its interval from those of its logarithm."""
    ratio = wording.number(math.exp(result.estimate), 3)
    if result.low is None or result.high is None:
        return ratio, wording.NO_VALUE
    ends = [wording.number(math.exp(end), 3) for end in (result.low, result.high)]
    return ratio, f"[{ends[0]}, {ends[1]}]"


def _panel(experiment: Experiment, split: str, arms: Mapping[str, CurvatureBySeed]) -> Panel:
    lines = []
    for name, runs in arms.items():
        for seed, run in runs.items():
            known = [point for point in run if point.value is not None and point.value > 0]
            lines.append(
                Line(
                    [point.loss for point in known],
                    [point.value for point in known],
                    f"{escaped(name)}, seed {seed}<br>step %{{customdata}}: loss %{{x:.3g}}, "
                    "eigenvalue %{y:.3g}",
                    list(experiment.arms).index(name),
                    marks=True,
                    steps=[point.step for point in known],
                )
            )
    figure = lines_figure(
        lines, "loss on the answer, nats per token; training goes to the right", height=320
    )
    figure.update_xaxes(**log_axis(), autorange="reversed")
    figure.update_yaxes(**log_axis())
    pairs = matched_loss_pairs(experiment, split, arms)
    words = [_words(pair) for pair in pairs[:_MOST_PAIRS]]
    title = f"Top eigenvalue against the loss on the answer, {split}"
    return panel(
        title,
        figure,
        matched_loss_table(experiment, split, pairs),
        notes=[
            "line: one seed; mark: one checkpoint",
            *(words if len(pairs) <= _MOST_PAIRS else []),
        ],
        description=f"{'. '.join(['', *words])}.",
        warnings=(words for pair in pairs for words in pair.left_out),
        axis="top eigenvalue of the loss on the answer",
    )


def _words(pair: MatchedLoss) -> str:
    if pair.at_last is None:
        return f"{pair.a} and {pair.b}: {pair.reason}"
    ratio, ends = _ratio(pair.at_last)
    return (
        f"at a loss of {wording.quantity(pair.last, 'nats')}, the end of {pair.last_of}, the top "
        f"eigenvalue of {pair.a} is {ratio} times that of {pair.b} {ends}"
    )
