"""Slices of the loss through weight space, and the density of the Hessian's eigenvalues."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ntpctp.curvature import (
    Eigenvalues,
    HessianOperator,
    LossSlice,
    density,
    loss_slice,
    random_directions,
    top_eigenvalues,
)
from ntpctp.curvature.inner import inner
from ntpctp.measures.computation.subset import (
    CURVATURE_UNIT,
    RISE_UNIT,
    Subset,
    SubsetLoss,
    differentiable_model,
    filter_dimension_of,
)
from ntpctp.measures.context import EvaluationContext
from ntpctp.measures.fields import split_names
from ntpctp.measures.landscape import Landscape
from ntpctp.measures.measure import ItemResult, Measurement, Score

_Axis: TypeAlias = NDArray[np.float64]


def measure(options: Landscape, context: EvaluationContext) -> Measurement:
    """Return the points of slices and density as rows, and the scores of ``Landscape``."""
    model = differentiable_model(context)
    rows: list[ItemResult] = []
    scores: list[Score] = []
    for split in split_names(options.split):
        subset = Subset.of(context, split, options.max_items)
        loss = SubsetLoss(context, model, subset)
        common = {"split": split, "items": len(subset), "fingerprint": subset.fingerprint}
        # An operator holds for the weights at its construction, so operators come before slices.
        for part in (_density, _eigenvector, _random):
            of_part, scores_of_part = part(options, loss)
            rows += [{**common, **row} for row in of_part]
            scores += scores_of_part
    return rows, scores


def _score(
    loss: SubsetLoss, name: str, unit: str, value: float | None = None, **fields: Any
) -> Score:
    return loss.subset.score("landscape", name, unit, value, **fields)


def _density(options: Landscape, loss: SubsetLoss) -> Measurement:
    settings = {
        "num_probes": options.probes,
        "num_steps": options.lanczos_steps,
        "seed": options.seed,
    }
    if options.backend == "pyhessian":
        result, backend = loss.pyhessian().density(**settings), {"backend": "pyhessian"}
    else:
        result, backend = density(loss.hessian(options.graph_memory_bytes), **settings), {}
    rows = [
        {
            "kind": "density",
            "probe": probe,
            "nodes": nodes.tolist(),
            "weights": weights.tolist(),
            **backend,
        }
        for probe, (nodes, weights) in enumerate(zip(result.nodes, result.weights, strict=True))
    ]
    mean, error = result.mean(lambda values: values)
    square, square_error = result.mean(np.square)
    root = square**0.5
    return rows, [
        _score(loss, "mean_eigenvalue", CURVATURE_UNIT, mean, standard_error=error),
        _score(
            loss,
            "root_mean_square_eigenvalue",
            CURVATURE_UNIT,
            root,
            # First order: d sqrt(x) = dx / (2 sqrt(x)).
            standard_error=square_error / (2 * root) if root else 0.0,
        ),
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
    line = loss_slice(loss.mean(), _uphill(operator, result)[None], axis)
    row |= _points(line)
    if line.num_nonfinite:
        return [row], [_score(loss, "eigenvector_rise", RISE_UNIT, reason=_overflow(line))]
    rise, coarse = (_mean_rise(axis[::s], line.losses[::s]) for s in (1, 2))
    return [row], [
        _score(loss, "eigenvector_rise", RISE_UNIT, rise, error_bound=abs(rise - coarse))
    ]


def _random(options: Landscape, loss: SubsetLoss) -> Measurement:
    mean = loss.mean()
    directions = random_directions(
        mean.parameters,
        options.directions,
        seed=options.seed,
        filter_dimension=filter_dimension_of(loss.model),
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


def _uphill(operator: HessianOperator, result: Eigenvalues) -> Tensor:
    """Return the eigenvector, whose sign is arbitrary, towards the side where the loss rises."""
    assert result.vectors is not None
    vector = result.vectors[0]
    return -vector if float(inner(vector, operator.gradient)) < 0 else vector


def _mean_rise(axis: _Axis, losses: _Axis) -> float:
    """Return the mean over the axis of the loss minus the loss at its middle point."""
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
