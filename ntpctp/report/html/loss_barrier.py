"""The loss on the straight path between two arms' weights, one figure for each pair."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ntpctp.config import Experiment
from ntpctp.report.html.curves import mean_interval
from ntpctp.report.html.figures import Line, escaped, lines_figure
from ntpctp.report.html.panel import Panel, panel
from ntpctp.report.html.sections import Section
from ntpctp.report.html.tables import Table
from ntpctp.report.html.wording import number, percent
from ntpctp.runner.loss_barrier import read_paths

UNIT = "nats per token"
_WORDS = (
    "Loss on the answer at (1 - t) times one arm's last weights plus t times the other's, seed by "
    "seed. The barrier is the largest rise above the straight line between the two ends; without a "
    "barrier both arms lie in one valley of the loss. Arms with different initial weights, or arms "
    "that differ only by a permutation of units, show a barrier too. A barrier between measured "
    "points is missed."
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
    table = Table(f"{title}: loss on the answer, {UNIT}", ("seed", f"at {a}", f"at {b}", "barrier"))
    for row in rows:
        ends = row.get("losses", [None])
        table.add(str(row["seed"]), ends[0], ends[-1], row["barrier"])
    lines = []
    for row in rows:
        if "losses" in row:
            hover = f"seed {row['seed']}<br>at %{{x:.3g}}: %{{y:.4g}} {UNIT}"
            lines.append(Line(row["positions"], row["losses"], hover, None, marks=True))
    figure = lines_figure(lines, f"share of the way from {escaped(a)} to {escaped(b)}")
    figure.update_yaxes(title_text=f"loss on the answer, {UNIT}", rangemode="tozero")
    words = _mean_barrier([r["barrier"] for r in rows if r["barrier"] is not None], experiment)
    return panel(
        title,
        figure,
        table,
        notes=[words, "line: one seed", f"{rows[0]['items']} items"],
        description=f": {words}. The table below has the ends and the barrier of every seed.",
        warnings=(f"seed {row['seed']}: {row['reason']}" for row in rows if row["reason"]),
        legend=False,
    )


def _mean_barrier(barriers: Sequence[float], experiment: Experiment) -> str:
    if not barriers:
        return "no barrier could be measured"
    words = f"mean barrier {number(sum(barriers) / len(barriers))} {UNIT}"
    low, high = mean_interval(barriers, UNIT, experiment.comparison.level)
    if low is None or high is None:
        return words
    level = percent(experiment.comparison.level)
    return f"{words}, {level} t interval {number(low)} to {number(high)}"
