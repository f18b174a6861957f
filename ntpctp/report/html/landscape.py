"""Figures of the measure ``landscape``: its slices, its plane and the density of eigenvalues.

They are drawn from the rows that the measure stores, at the last step of every run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ntpctp._core.files import read_jsonl
from ntpctp._core.layout import RunId, checkpoint_directory, rows_path, stage_directory
from ntpctp.config import Experiment
from ntpctp.curvature import Density
from ntpctp.report.html.figures import HOVER, colour, finished, line, plain_figure, text
from ntpctp.report.html.sections import Panel
from ntpctp.report.html.tables import Table, TableCell, arm_cells
from ntpctp.report.html.wording import NO_VALUE, number

Rows = Sequence[Mapping[str, Any]]
Runs = Mapping[RunId, Rows]

LOSS = "loss on the answer, nats per token"
_GRID = 400
"""Points of a drawn density."""
_LINES = {
    "slice": (
        "Slices along random directions",
        "distance, in multiples of a filter-normalised direction",
        "thin line: one seed along one direction; all runs share the directions",
    ),
    "eigenvector": (
        "Slices along the top eigenvector",
        "distance along the unit eigenvector, in units of weight",
        "thin line: one seed along its own eigenvector, towards the side where the loss rises",
    ),
}


def landscape_panels(experiment: Experiment, output: Path) -> list[Panel]:
    """Return the figures of every split, none if nothing was measured."""
    runs: dict[RunId, Rows] = {}
    for name, arm in experiment.arms.items():
        for seed in experiment.seeds:
            run = RunId(name, seed)
            stage = stage_directory(output, run)
            path = rows_path(checkpoint_directory(stage, arm.training.steps), "landscape")
            if path.is_file():
                runs[run] = read_jsonl(path)
    panels: list[Panel] = []
    for split in dict.fromkeys(row["split"] for rows in runs.values() for row in rows):
        of_split = {run: [r for r in rows if r["split"] == split] for run, rows in runs.items()}
        panels += [_density_panel(experiment, of_split, split)] if _any(of_split, "density") else []
        panels += [
            _lines_panel(experiment, of_split, split, kind)
            for kind in _LINES
            if _any(of_split, kind)
        ]
        panels += _plane_panels(experiment, of_split, split)
    return panels


def _any(runs: Runs, kind: str) -> bool:
    """Return whether a run has something to draw: an unconverged eigenvector has no line."""
    found = (row for rows in runs.values() for row in rows if row["kind"] == kind)
    return any("losses" in row or "nodes" in row for row in found)


@dataclass(frozen=True)
class _Curve:
    """One thin line; a point without a finite loss is a gap."""

    run: RunId
    label: str
    x: Sequence[float]
    y: Sequence[float | None]


def _lines_panel(experiment: Experiment, runs: Runs, split: str, kind: str) -> Panel:
    title, axis, words = _LINES[kind]
    found = [
        _Curve(
            run,
            f"direction {row['direction'] + 1}" if kind == "slice" else "top eigenvector",
            row["coordinates"],
            row["losses"],
        )
        for run, rows in runs.items()
        for row in rows
        if row["kind"] == kind and "losses" in row
    ]
    figure = _curves_figure(experiment, found, axis)
    figure.update_yaxes(title_text=LOSS, rangemode="tozero")
    cells = arm_cells(experiment.arms)
    table = Table(
        f"{title}, {split}: {LOSS}",
        ("arm", "seed", "line", "left end", "at the checkpoint", "right end", "largest"),
        text_columns=frozenset({0, 2}),
    )
    for curve in found:
        known = [y for y in curve.y if y is not None]
        ends = (curve.y[0], curve.y[len(curve.y) // 2], curve.y[-1], max(known, default=None))
        table.add(
            cells[curve.run.arm],
            str(curve.run.seed),
            curve.label,
            *(NO_VALUE if y is None else number(y) for y in ends),
        )
    return Panel(
        f"{title}, {split}",
        f"{LOSS}; {words}",
        f"{title}: {LOSS} against {axis}. The table below has the ends of every line.",
        plain_figure(finished(figure, 300)),
        table,
    )


def _curves_figure(experiment: Experiment, found: Sequence[_Curve], axis: str) -> go.Figure:
    arms = list(experiment.arms)
    figure = go.Figure()
    for curve in found:
        figure.add_scatter(
            x=curve.x,
            y=curve.y,
            mode="lines",
            opacity=0.75,
            line={**line(arms.index(curve.run.arm)), "width": 1.2},
            hovertemplate=f"{text(str(curve.run))}, {curve.label}<br>at %{{x:.3g}}: %{{y:.4g}}"
            f"{HOVER}",
        )
    figure.update_xaxes(title_text=axis, title_standoff=6)
    return figure


def _density_panel(experiment: Experiment, runs: Runs, split: str) -> Panel:
    """Draw the smoothed density of every run on one grid, and table its ends and moments."""
    densities = {
        run: _density(rows)
        for run, rows in runs.items()
        if any(r["kind"] == "density" for r in rows)
    }
    ends = [float(n) for d in densities.values() for nodes in d.nodes for n in nodes[[0, -1]]]
    low, high = min(ends), max(ends)
    width = (high - low) / 100 or 1.0
    grid = np.linspace(low - 4 * width, high + 4 * width, _GRID)
    curves = []
    for run, found in densities.items():
        curves.append(
            _Curve(run, "density", grid.tolist(), found.smoothed(grid, width)[0].tolist())
        )
    figure = _curves_figure(
        experiment, curves, "eigenvalue, nats per token and squared unit of weight"
    )
    # Nearly all eigenvalues are near zero: a linear axis would show that peak alone.
    top = max(max(y for y in curve.y if y is not None) for curve in curves)
    figure.update_yaxes(
        type="log",
        dtick=1,
        tickformat="~g",
        exponentformat="power",
        range=[np.log10(top) - 7, np.log10(top) + 0.3],
        title_text="share of eigenvalues per unit",
    )
    cells = arm_cells(experiment.arms)
    table = Table(
        f"Density of eigenvalues, {split}; behind ± the standard error over random vectors",
        ("arm", "seed", "smallest node", "largest node", "mean", "root mean square"),
        text_columns=frozenset({0}),
    )
    for run, found in densities.items():
        mean, error = found.mean(lambda values: values)
        square, square_error = found.mean(np.square)
        root = square**0.5
        table.add(
            cells[run.arm],
            str(run.seed),
            number(min(float(nodes[0]) for nodes in found.nodes)),
            number(max(float(nodes[-1]) for nodes in found.nodes)),
            TableCell(number(mean), f"± {number(error, 3)}"),
            TableCell(number(root), f"± {number(square_error / (2 * root), 3)}" if root else ""),
        )
    return Panel(
        f"Density of the Hessian's eigenvalues, {split}",
        f"share of eigenvalues per unit, smoothed by a Gaussian of standard deviation "
        f"{number(width, 3)}; thin line: one seed; logarithmic axis, cut seven decades below the "
        "peak",
        "Density of eigenvalues of the Hessian of the loss on the answer, one line a run. The "
        "table below has the ends and the moments of every run.",
        plain_figure(finished(figure, 300)),
        table,
    )


def _density(rows: Rows) -> Density:
    probes = [row for row in rows if row["kind"] == "density"]
    return Density(
        tuple(np.array(row["nodes"], np.float64) for row in probes),
        tuple(np.array(row["weights"], np.float64) for row in probes),
        0,
    )


def _plane_panels(experiment: Experiment, runs: Runs, split: str) -> list[Panel]:
    """Draw the plane of the first seed of each arm, all on one scale of contours."""
    planes: dict[RunId, tuple[list[float], NDArray[np.float64]]] = {}
    for run, rows in runs.items():
        if any(other.arm == run.arm for other in planes):
            continue
        for row in rows:
            if row["kind"] == "plane":
                planes[run] = row["coordinates"], np.array(row["losses"], np.float64)
    seen = np.array([v for _, z in planes.values() for v in z.ravel() if np.isfinite(v)])
    if not len(seen):
        return []
    step = float(np.ptp(seen)) / 12 or 1.0
    contours = {"start": float(seen.min()) + step / 2, "end": float(seen.max()), "size": step}
    return [
        _plane_panel(experiment, run, split, coordinates, losses, contours)
        for run, (coordinates, losses) in planes.items()
    ]


def _plane_panel(
    experiment: Experiment,
    run: RunId,
    split: str,
    coordinates: list[float],
    losses: NDArray[np.float64],
    contours: dict[str, float],
) -> Panel:
    index = list(experiment.arms).index(run.arm)
    title = f"Loss on a plane, {run}, {split}"
    shown = [[None if not np.isfinite(v) else float(v) for v in row] for row in losses]
    figure = go.Figure()
    figure.add_contour(
        x=coordinates,
        y=coordinates,
        z=shown,
        showscale=False,
        line={"color": colour(index), "width": 1.2},
        contours={**contours, "coloring": "none", "showlabels": True},
        hovertemplate=f"%{{y:.3g}}, %{{x:.3g}}: %{{z:.4g}} nats per token{HOVER}",
    )
    figure.add_scatter(
        x=[0],
        y=[0],
        mode="markers",
        marker={"color": "var(--ink)", "symbol": "cross-thin-open", "size": 9},
        hovertemplate=f"the checkpoint{HOVER}",
    )
    figure.update_xaxes(title_text="second random direction", title_standoff=6)
    figure.update_yaxes(title_text="first random direction")
    table = Table(
        f"{title}: {LOSS}; rows: first direction, columns: second",
        ("", *map(number, coordinates)),
    )
    for place, row in zip(coordinates, shown, strict=True):
        table.add(number(place), *(NO_VALUE if v is None else number(v) for v in row))
    return Panel(
        title,
        f"{LOSS}, a contour every {number(contours['size'], 3)}, the same levels for all arms; "
        "axes in multiples of the filter-normalised directions; cross: the checkpoint",
        f"{title}: contours of the {LOSS}. The table below has all points.",
        plain_figure(finished(figure, 300)),
        table,
    )
