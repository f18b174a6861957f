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
    at_end = ("loss", "ratio", "interval", "p")
    on_average = ("mean ratio", "interval", "from loss")
    table = Table(
        f"Top eigenvalue of the loss on the answer, {split}: ratio A / B at equal loss, {level} "
        "t interval over seeds of its logarithm, not corrected for the number of pairs",
        ("A", "B", *at_end, *on_average, "seeds"),
        text_columns=frozenset({0, 1}),
    )
    for pair in pairs:
        if pair.at_last is None or pair.mean is None:
            numbers = [pair.reason or "", *[None] * 6]
        else:
            first, last = (wording.quantity(loss, "nats") for loss in (pair.first, pair.last))
            p_value = wording.p_digits(pair.at_last.p_value)
            numbers = [last, *_ratio(pair.at_last), p_value, *_ratio(pair.mean), first]
        table.add(pair.a, pair.b, *numbers, str(len(pair.seeds)))
    return table


def _ratio(result: PairedDifference) -> tuple[str, str]:
    ratio = wording.number(math.exp(result.estimate), 3)
    if result.low is None or result.high is None:
        return ratio, wording.NO_VALUE
    ends = [wording.number(math.exp(end), 3) for end in (result.low, result.high)]
    return ratio, f"[{ends[0]}, {ends[1]}]"


def _panel(experiment: Experiment, split: str, arms: Mapping[str, CurvatureBySeed]) -> Panel:
    lines = []
    for index, name in enumerate(experiment.arms):
        for seed, run in arms.get(name, {}).items():
            known = [point for point in run if point.value is not None and point.value > 0]
            hover = (
                f"{escaped(name)}, seed {seed}<br>step %{{customdata}}: loss %{{x:.3g}}, "
                "eigenvalue %{y:.3g}"
            )
            losses, values = [point.loss for point in known], [point.value for point in known]
            steps = [point.step for point in known]
            lines.append(Line(losses, values, hover, index, marks=True, steps=steps))
    axis = "loss on the answer, nats per token; training goes to the right"
    figure = lines_figure(lines, axis, height=320)
    figure.update_xaxes(**log_axis(), autorange="reversed")
    figure.update_yaxes(**log_axis())
    pairs = matched_loss_pairs(experiment, split, arms)
    words = [_words(pair) for pair in pairs[:_MOST_PAIRS]]
    shown = words if len(pairs) <= _MOST_PAIRS else []
    title = f"Top eigenvalue against the loss on the answer, {split}"
    return panel(
        title,
        figure,
        matched_loss_table(experiment, split, pairs),
        notes=["line: one seed; mark: one checkpoint", *shown],
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
