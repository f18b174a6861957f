"""Slices of the loss through weight space, and the density of the Hessian's eigenvalues."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ntpctp.curvature import LossSlice, density, loss_slice, random_directions, top_eigenvalues
from ntpctp.curvature.inner import inner
from ntpctp.measures.computation.subset import (
    CURVATURE_UNIT,
    RISE_UNIT,
    SubsetLoss,
    filter_dimension_of,
    losses,
)
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.landscape import Landscape
from ntpctp.measures.measure import ItemResult, Measurement, Score, joined

_Axis: TypeAlias = NDArray[np.float64]


def measure(options: Landscape, context: EvaluationContext) -> Measurement:
    """Return the points of slices and density as rows, and the scores of ``Landscape``."""
    of_splits = losses(context, options.split, options.max_items)
    return joined(_of_split(options, loss) for loss in of_splits)


def _of_split(options: Landscape, loss: SubsetLoss) -> Measurement:
    # An operator holds for the weights at its construction, so operators come before slices.
    rows, scores = joined(part(options, loss) for part in (_density, _eigenvector, _random))
    return [{**loss.subset.fields, **row} for row in rows], scores


def _score(
    loss: SubsetLoss, name: str, unit: str, value: float | None = None, **fields: Any
) -> Score:
    return loss.subset.score("landscape", name, unit, value, **fields)


def _density(options: Landscape, loss: SubsetLoss) -> Measurement:
    size = {"num_probes": options.probes, "num_steps": options.lanczos_steps, "seed": options.seed}
    if options.backend == "pyhessian":
        result, backend = loss.pyhessian().density(**size), {"backend": "pyhessian"}
    else:
        result, backend = density(loss.hessian(options.graph_memory_bytes), **size), {}
    rows = []
    for probe, points in enumerate(zip(result.nodes, result.weights, strict=True)):
        nodes, weights = (values.tolist() for values in points)
        row = {"kind": "density", "probe": probe, "nodes": nodes, "weights": weights}
        rows.append({**row, **backend})
    mean, error = result.mean(lambda values: values)
    square, square_error = result.mean(np.square)
    root = square**0.5
    root_error = square_error / (2 * root) if root else 0.0  # d sqrt(x) = dx / (2 sqrt(x))
    name = "root_mean_square_eigenvalue"
    return rows, [
        _score(loss, "mean_eigenvalue", CURVATURE_UNIT, mean, standard_error=error),
        _score(loss, name, CURVATURE_UNIT, root, standard_error=root_error),
    ]


def _eigenvector(options: Landscape, loss: SubsetLoss) -> Measurement:
    operator = loss.hessian(options.graph_memory_bytes)
    result = top_eigenvalues(
        operator,
        seed=options.seed,
        relative_tolerance=options.relative_tolerance,
        max_products=options.max_products,
        vectors=True,
    )
    row = {"kind": "eigenvector", "value": result.value, "residual": result.residual}
    if not result.converged:
        reason = (
            f"the eigenvector has not converged: after {result.num_products} products the residual "
            f"{result.residual:.3g} exceeds {options.relative_tolerance:g} of {result.value:.4g}; "
            "raise max_products"
        )
        return [row], [_score(loss, "eigenvector_rise", RISE_UNIT, reason=reason)]
    axis = np.linspace(-options.eigenvector_extent, options.eigenvector_extent, options.points)
    assert result.vectors is not None
    # The sign of an eigenvector is arbitrary: turn it to the side where the loss rises.
    falls = float(inner(result.vectors[0], operator.gradient)) < 0
    direction = -result.vectors if falls else result.vectors
    line = loss_slice(loss.mean(), direction, axis)
    row |= _points(line)
    if line.num_nonfinite:
        return [row], [_score(loss, "eigenvector_rise", RISE_UNIT, reason=_overflow(line))]
    rise, coarse = (_mean_rise(axis[::s], line.losses[::s]) for s in (1, 2))
    bound = abs(rise - coarse)
    return [row], [_score(loss, "eigenvector_rise", RISE_UNIT, rise, error_bound=bound)]


def _random(options: Landscape, loss: SubsetLoss) -> Measurement:
    mean = loss.mean()
    filters, count = filter_dimension_of(loss.model), options.directions
    directions = random_directions(
        mean.parameters, count, seed=options.seed, filter_dimension=filters
    )
    axis = np.linspace(-options.extent, options.extent, options.points)
    slices = [loss_slice(mean, direction[None], axis) for direction in directions]
    rows = [{"kind": "slice", "direction": k, **_points(line)} for k, line in enumerate(slices)]
    if options.plane_points and options.directions > 1:
        coarse = np.linspace(-options.extent, options.extent, options.plane_points)
        rows.append({"kind": "plane", **_points(loss_slice(mean, directions[:2], coarse))})
    for line in slices:
        if line.num_nonfinite:
            return rows, [_score(loss, "slice_rise", RISE_UNIT, reason=_overflow(line))]
    rises = [_mean_rise(axis, line.losses) for line in slices]
    error = float(np.std(rises, ddof=1) / len(rises) ** 0.5) if len(rises) > 1 else None
    value = float(np.mean(rises))
    return rows, [_score(loss, "slice_rise", RISE_UNIT, value, standard_error=error)]


def _mean_rise(axis: _Axis, losses: _Axis) -> float:
    return float(np.trapezoid(losses - losses[len(losses) // 2], axis) / (axis[-1] - axis[0]))


def _points(points: LossSlice) -> ItemResult:
    """Return coordinates and losses for a row: null where a loss is not finite."""
    losses = np.where(np.isfinite(points.losses), points.losses, np.nan).astype(object)
    losses[np.isnan(losses.astype(np.float64))] = None
    return {"coordinates": points.coordinates[0].tolist(), "losses": losses.tolist()}


def _overflow(points: LossSlice) -> str:
    return (
        f"{points.num_nonfinite} of {points.losses.size} points of a slice have no finite loss; "
        "use a smaller extent"
    )
