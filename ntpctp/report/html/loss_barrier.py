"""The loss on the straight path between two arms' weights, one figure a pair."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from ntpctp.config import Experiment
from ntpctp.report.html.curves import mean_interval
from ntpctp.report.html.figures import HOVER, finished, plain_figure, text
from ntpctp.report.html.sections import Panel, Section
from ntpctp.report.html.tables import Table
from ntpctp.report.html.wording import NO_VALUE, number, percent
from ntpctp.runner.loss_barrier import read_paths

UNIT = "nats per token"
_WORDS = (
    "Loss on the answer at (1 - t) of one arm's last weights plus t of the other's, seed by seed. "
    "The barrier is how far it rises above the straight line between its ends: without one, both "
    "arms lie in one valley. Arms that start from other weights, or that differ by an exchange of "
    "units alone, show a barrier too; one between the points that were measured goes unseen."
)


def path_sections(experiment: Experiment, output: Path) -> list[Section]:
    """Return the section of the loss between arms, none if it was not measured."""
    if experiment.comparison.loss_path is None:
        return []
    rows = [row for row in read_paths(output) if {row["a"], row["b"]} <= set(experiment.arms)]
    if not rows:
        return []
    by_pair = sorted(rows, key=_pair)  # stable: seeds keep their order
    panels = [_panel(experiment, *pair, list(of_pair)) for pair, of_pair in groupby(by_pair, _pair)]
    return [Section("loss between arms", _WORDS, panels, [])]


def _pair(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["a"], row["b"]


def _panel(experiment: Experiment, a: str, b: str, rows: Sequence[Mapping[str, Any]]) -> Panel:
    title = f"From {a} to {b}, {rows[0]['split']}"
    barriers = [row["barrier"] for row in rows if row["barrier"] is not None]
    table = Table(
        f"{title}: loss on the answer, {UNIT}",
        ("seed", f"at {a}", f"at {b}", "barrier"),
    )
    figure = go.Figure()
    for row in rows:
        ends = row.get("losses", [None, None])
        table.add(str(row["seed"]), *map(_shown, (ends[0], ends[-1], row["barrier"])))
        if "losses" in row:
            figure.add_scatter(
                x=row["positions"],
                y=row["losses"],
                mode="lines+markers",
                line={"color": "var(--ink)", "width": 1.2},
                marker={"color": "var(--ink)", "size": 4},
                hovertemplate=f"seed {row['seed']}<br>at %{{x:.3g}}: %{{y:.4g}} {UNIT}{HOVER}",
            )
    level = percent(experiment.comparison.level)
    low, high = mean_interval(barriers, UNIT, experiment.comparison.level)
    words = "no barrier could be measured"
    if barriers:
        words = f"mean barrier {number(sum(barriers) / len(barriers))} {UNIT}"
        if low is not None and high is not None:
            words += f", {level} t interval {number(low)} to {number(high)}"
    figure.update_xaxes(
        title_text=f"share of the way from {text(a)} to {text(b)}", title_standoff=6
    )
    figure.update_yaxes(title_text=f"loss on the answer, {UNIT}", rangemode="tozero")
    return Panel(
        title,
        f"{words}; one line a seed; {rows[0]['items']} items",
        f"{title}: {words}. The table below has the ends and the barrier of every seed.",
        plain_figure(finished(figure, 300)),
        table,
        tuple(f"seed {row['seed']}: {row['reason']}" for row in rows if row["reason"]),
        legend=False,
    )


def _shown(value: float | None) -> str:
    return NO_VALUE if value is None else number(value)
