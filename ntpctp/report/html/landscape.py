"""Figures of the measure ``landscape``: slices and planes of the loss, density of eigenvalues.

They are drawn from the rows that the measure stores, at the last step of every run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from ntpctp._core.files import read_jsonl
from ntpctp._core.layout import RunId, rows_path
from ntpctp.config import Experiment
from ntpctp.curvature import Density
from ntpctp.report.html import figures
from ntpctp.report.html.figures import HOVER, Line, escaped, lines_figure
from ntpctp.report.html.inputs import last_checkpoint
from ntpctp.report.html.panel import Panel, panel
from ntpctp.report.html.tables import Table, TableCell, arm_cells
from ntpctp.report.html.wording import number

Rows = Sequence[Mapping[str, Any]]
Runs = Mapping[RunId, Rows]

LOSS = "loss on the answer, nats per token"
_GRID = 400
"""Points of a drawn density."""
_SLICES = {
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
    for run in (RunId(name, seed) for name in experiment.arms for seed in experiment.seeds):
        path = rows_path(last_checkpoint(experiment, output, run), "landscape")
        if path.is_file():
            runs[run] = read_jsonl(path)
    panels: list[Panel] = []
    for split in dict.fromkeys(row["split"] for rows in runs.values() for row in rows):
        of_split = {run: [r for r in rows if r["split"] == split] for run, rows in runs.items()}
        if _any(of_split, "density"):
            panels.append(_density_panel(experiment, of_split, split))
        kinds = [kind for kind in _SLICES if _any(of_split, kind)]
        panels += [_slices_panel(experiment, of_split, split, kind) for kind in kinds]
        panels += _plane_panels(experiment, of_split, split)
    return panels


def _any(runs: Runs, kind: str) -> bool:
    """Return whether a run has something to draw: an unconverged eigenvector has no line."""
    of_kind = (row for rows in runs.values() for row in rows if row["kind"] == kind)
    return any("losses" in row or "nodes" in row for row in of_kind)


def _line(
    experiment: Experiment, run: RunId, label: str, x: Sequence[float], y: Sequence[float | None]
) -> Line:
    hover = f"{escaped(str(run))}, {label}<br>at %{{x:.3g}}: %{{y:.4g}}"
    return Line(x, y, hover, list(experiment.arms).index(run.arm))


def _slices_panel(experiment: Experiment, runs: Runs, split: str, kind: str) -> Panel:
    title, axis, words = _SLICES[kind]
    cells = arm_cells(experiment.arms)
    table = Table(
        f"{title}, {split}: {LOSS}",
        ("arm", "seed", "line", "left end", "at the checkpoint", "right end", "largest"),
        text_columns=frozenset({0, 2}),
    )
    lines = []
    for run, row in ((run, row) for run, rows in runs.items() for row in rows):
        if row["kind"] == kind and "losses" in row:
            label = f"direction {row['direction'] + 1}" if kind == "slice" else "top eigenvector"
            y = row["losses"]
            lines.append(_line(experiment, run, label, row["coordinates"], y))
            largest = max((loss for loss in y if loss is not None), default=None)
            table.add(cells[run.arm], str(run.seed), label, y[0], y[len(y) // 2], y[-1], largest)
    figure = lines_figure(lines, axis)
    figure.update_yaxes(title_text=LOSS, rangemode="tozero")
    return panel(
        f"{title}, {split}",
        figure,
        table,
        notes=[LOSS, words],
        description=f": {LOSS} against {axis}. The table below has the ends of every line.",
    )


def _density_panel(experiment: Experiment, runs: Runs, split: str) -> Panel:
    """Draw the smoothed density of every run on one grid; its ends and moments are the table."""
    densities = {run: density for run, rows in runs.items() if (density := _density(rows)).nodes}
    ends = [float(n) for d in densities.values() for nodes in d.nodes for n in nodes[[0, -1]]]
    low, high = min(ends), max(ends)
    width = (high - low) / 100 or 1.0
    grid = np.linspace(low - 4 * width, high + 4 * width, _GRID)
    smoothed = {run: d.smoothed(grid, width)[0] for run, d in densities.items()}
    x = grid.tolist()
    lines = (_line(experiment, run, "density", x, y.tolist()) for run, y in smoothed.items())
    figure = lines_figure(lines, "eigenvalue, nats per token and squared unit of weight")
    # Nearly all eigenvalues are near zero: a linear axis would show that peak alone.
    top = np.log10(max(float(y.max()) for y in smoothed.values()))
    figure.update_yaxes(
        **figures.log_axis(),
        exponentformat="power",
        range=[top - 7, top + 0.3],
        title_text="share of eigenvalues per unit",
    )
    cells = arm_cells(experiment.arms)
    table = Table(
        f"Density of eigenvalues, {split}; ±: standard error over random vectors",
        ("arm", "seed", "smallest node", "largest node", "mean", "root mean square"),
        text_columns=frozenset({0}),
    )
    for run, density in densities.items():
        mean, error = density.mean(lambda values: values)
        square, square_error = density.mean(np.square)
        root = square**0.5
        mean_cell = TableCell(number(mean), f"± {number(error, 3)}")
        note = f"± {number(square_error / (2 * root), 3)}" if root else ""
        smallest = min(float(nodes[0]) for nodes in density.nodes)
        largest = max(float(nodes[-1]) for nodes in density.nodes)
        name, seed = cells[run.arm], str(run.seed)
        table.add(name, seed, smallest, largest, mean_cell, TableCell(number(root), note))
    return panel(
        f"Density of the Hessian's eigenvalues, {split}",
        figure,
        table,
        notes=[
            "share of eigenvalues per unit, smoothed by a Gaussian of standard deviation "
            + number(width, 3),
            "thin line: one seed",
            "logarithmic axis, cut seven decades below the peak",
        ],
        description=", for the loss on the answer, one line for each run. The table below has the "
        "ends and the moments of every run.",
    )


def _density(rows: Rows) -> Density:
    probes = [row for row in rows if row["kind"] == "density"]
    nodes, weights = (
        [np.array(row[k], np.float64) for row in probes] for k in ("nodes", "weights")
    )
    return Density(tuple(nodes), tuple(weights), 0)


def _plane_panels(experiment: Experiment, runs: Runs, split: str) -> list[Panel]:
    """Draw the plane of the first seed of each arm, all with the same contour levels."""
    planes: dict[RunId, tuple[list[float], NDArray[np.float64]]] = {}
    for run, rows in runs.items():
        if any(other.arm == run.arm for other in planes):
            continue
        for row in rows:
            if row["kind"] == "plane":
                planes[run] = row["coordinates"], np.array(row["losses"], np.float64)
    finite = np.array([v for _, z in planes.values() for v in z.ravel() if np.isfinite(v)])
    if not len(finite):
        return []
    step = float(np.ptp(finite)) / 12 or 1.0
    contours = {"start": float(finite.min()) + step / 2, "end": float(finite.max()), "size": step}
    arms = list(experiment.arms)
    return [
        _plane_panel(f"Loss on a plane, {run}, {split}", arms.index(run.arm), *plane, contours)
        for run, plane in planes.items()
    ]


def _plane_panel(
    title: str,
    arm: int,
    coordinates: list[float],
    losses: NDArray[np.float64],
    contours: dict[str, float],
) -> Panel:
    shown = [[None if not np.isfinite(v) else float(v) for v in row] for row in losses]
    figure = go.Figure()
    figure.add_contour(
        x=coordinates,
        y=coordinates,
        z=shown,
        showscale=False,
        line={"color": figures.colour(arm), "width": 1.2},
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
    figure.update_yaxes(title_text="first random direction")
    caption = f"{title}: {LOSS}; rows: first direction, columns: second"
    table = Table(caption, ("", *map(number, coordinates)))
    for coordinate, row in zip(coordinates, shown, strict=True):
        table.add(coordinate, *row)
    return panel(
        title,
        figures.finished(figure, figures.HEIGHT, x_title="second random direction"),
        table,
        notes=[
            f"{LOSS}, a contour every {number(contours['size'], 3)}, the same levels for all arms",
            "axes in multiples of the filter-normalised directions",
            "cross: the checkpoint",
        ],
        description=f": contours of the {LOSS}. The table below has all points.",
    )
