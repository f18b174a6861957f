"""The shape of the loss around a checkpoint: slices through weight space and the spectrum."""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from ntpctp.curvature import (
    Density,
    Eigenvalues,
    HessianOperator,
    LossSlice,
    PyHessianBackend,
    density,
    loss_slice,
    random_directions,
    top_eigenvalues,
)
from ntpctp.curvature.inner import inner
from ntpctp.measures.measure import EvaluationContext, Measure, Score, Splits, names_of
from ntpctp.measures.sharpness import RISE_UNIT
from ntpctp.measures.computation.subset import (
    CURVATURE_UNIT,
    Subset,
    SubsetLoss,
    differentiable_model,
    filter_dimensions,
)

Found = tuple[list[dict[str, Any]], list[Score]]


class Landscape(Measure):
    r"""The loss on the answers along lines and a plane through the weights, and its spectrum.

    L is the token-mean loss over the answers of a fixed set of examples, common to all arms, in
    evaluation mode and float32. The rows hold all points, for the figures:

    * ``slice``: L(θ + a d), a from −``extent`` to ``extent``, along ``directions`` random
      directions d in which each filter has the norm of that filter's weights and biases and gains
      do not move (Li et al. 2018, NeurIPS, section 4). They depend on ``seed`` alone: all arms of
      one architecture share them up to their own norms.
    * ``eigenvector``: the same along the unit eigenvector of the largest eigenvalue, a from
      −``eigenvector_extent`` to ``eigenvector_extent`` in units of weight, to the side on which L
      rises at first.
    * ``plane``: L(θ + a d + b e) along the first two random directions; one direction: none.
    * ``density``: nodes and weights of the density of eigenvalues, from each of ``probes`` random
      vectors (stochastic Lanczos quadrature; Ghorbani et al. 2019, ICML).

    Scores of each split:

    * ``slice_rise``: mean of L(θ + a d) − L(θ) over a (trapezoidal rule), in nats per token; mean
      over the directions.
    * ``eigenvector_rise``: the same along the eigenvector; ``error_bound`` is what leaving out
      every other point changes.
    * ``mean_eigenvalue``, ``root_mean_square_eigenvalue``: over all eigenvalues of the Hessian, in
      nats per token and squared unit of weight; standard errors over the probes.

    With ``backend: pyhessian`` nodes and weights are PyHessian's: right for the token-weighted loss
    too, and with the same standard errors; its small projected matrix is in float32, which blurs
    the eigenvalues near zero.
    """

    name: Literal["landscape"] = "landscape"
    at: Literal["all", "last"] = Field("last", description="which checkpoints are measured")
    split: Splits = Field("train", description="whose examples the loss is made of; or a list")
    max_items: int = Field(128, ge=1, description="the first items of the split")
    directions: int = Field(3, ge=1, description="random ones")
    extent: float = Field(0.5, gt=0, description="of the slices, in multiples of a direction")
    eigenvector_extent: float = Field(0.1, gt=0, description="likewise, in units of weight")
    points: int = Field(21, ge=5, description="of a slice, odd: the middle one is the checkpoint")
    plane_points: int = Field(11, ge=0, description="on each axis of the plane; 0: no plane")
    probes: int = Field(4, ge=2, description="random vectors for the density")
    lanczos_steps: int = Field(40, ge=2, description="for each, the resolution of the density")
    relative_tolerance: float = Field(1e-3, gt=0, lt=1, description="residual / eigenvalue")
    max_products: int = Field(100, ge=2, description="products for the eigenvector")
    graph_memory_bytes: int = Field(
        2**30, ge=0, description="for graphs that are kept between products; 0 keeps none"
    )
    backend: Literal["ntpctp", "pyhessian"] = Field("ntpctp", description="of the density")
    seed: int = Field(0, ge=0, description="of directions, probes and start vectors")

    by_default: ClassVar[bool] = False

    @field_validator("points")
    @classmethod
    def _odd(cls, points: int) -> int:
        if points % 4 != 1:
            raise ValueError(f"expected 4 n + 1 points (5, 9, 13, 17, 21, ...), found {points}")
        return points

    def measure(self, subject: EvaluationContext) -> tuple[list[dict[str, Any]], list[Score]]:  # noqa: D102
        model = differentiable_model(subject)
        rows: list[dict[str, Any]] = []
        scores: list[Score] = []
        for split in names_of(self.split):
            subset = Subset.of(subject, split, self.max_items)
            loss = SubsetLoss(subject, model, subset)
            # Operators are good for the weights that they were made at: they come before slices.
            for found in (self._density(loss), self._eigenvector(loss), self._random(loss)):
                common = {"items": len(subset), "fingerprint": subset.fingerprint}
                rows += [{"split": split, **common, **row} for row in found[0]]
                scores += found[1]
        return rows, scores

    def _density(self, loss: SubsetLoss) -> Found:
        settings = {"num_probes": self.probes, "num_steps": self.lanczos_steps, "seed": self.seed}
        caution = {}
        found: Density
        if self.backend == "pyhessian":
            backend = PyHessianBackend(loss, loss.parameters, loss.batches)
            found = backend.density(**settings)
            caution = {"backend": "pyhessian"}
        else:
            found = density(loss.hessian(self.graph_memory_bytes), **settings)
        rows = [
            {
                "kind": "density",
                "probe": probe,
                "nodes": nodes.tolist(),
                "weights": weights.tolist(),
                **caution,
            }
            for probe, (nodes, weights) in enumerate(zip(found.nodes, found.weights, strict=True))
        ]
        mean, error = found.mean(lambda values: values)
        square, square_error = found.mean(np.square)
        root = square**0.5
        return rows, [
            self._score(loss, "mean_eigenvalue", CURVATURE_UNIT, mean, standard_error=error),
            self._score(
                loss,
                "root_mean_square_eigenvalue",
                CURVATURE_UNIT,
                root,
                # First order: d sqrt(x) = dx / (2 sqrt(x)).
                standard_error=square_error / (2 * root) if root else 0.0,
            ),
        ]

    def _eigenvector(self, loss: SubsetLoss) -> Found:
        operator = loss.hessian(self.graph_memory_bytes)
        result = top_eigenvalues(
            operator,
            seed=self.seed,
            relative_tolerance=self.relative_tolerance,
            max_products=self.max_products,
            vectors=True,
        )
        if not result.converged:
            return self._no_eigenvector(loss, result)
        vector = _uphill(operator, result)
        axis = np.linspace(-self.eigenvector_extent, self.eigenvector_extent, self.points)
        found = loss_slice(loss.mean(), vector[None], axis)
        row = {
            "kind": "eigenvector",
            "value": result.value,
            "residual": result.residual,
            **_points(found),
        }
        if found.num_nonfinite:
            return [row], [
                self._score(loss, "eigenvector_rise", RISE_UNIT, None, reason=_overflow(found))
            ]
        rise, coarse = (_mean_rise(axis[::s], found.losses[::s]) for s in (1, 2))
        score = self._score(
            loss, "eigenvector_rise", RISE_UNIT, rise, error_bound=abs(rise - coarse)
        )
        return [row], [score]

    def _no_eigenvector(self, loss: SubsetLoss, result: Eigenvalues) -> Found:
        reason = (
            f"the eigenvector has not converged: after {result.num_products} products the residual "
            f"{result.residual:.3g} exceeds {self.relative_tolerance:g} of {result.value:.4g}; "
            "raise max_products"
        )
        row = {"kind": "eigenvector", "value": result.value, "residual": result.residual}
        return [row], [self._score(loss, "eigenvector_rise", RISE_UNIT, None, reason=reason)]

    def _random(self, loss: SubsetLoss) -> Found:
        mean, stored = loss.mean(), filter_dimensions(loss.model)
        directions = random_directions(
            mean.parameters,
            self.directions,
            seed=self.seed,
            filter_dimension=lambda name: stored.get(name, 0),
        )
        axis = np.linspace(-self.extent, self.extent, self.points)
        slices = [loss_slice(mean, direction[None], axis) for direction in directions]
        rows = [
            {"kind": "slice", "direction": place, **_points(found)}
            for place, found in enumerate(slices)
        ]
        if self.plane_points and self.directions > 1:
            coarse = np.linspace(-self.extent, self.extent, self.plane_points)
            rows.append({"kind": "plane", **_points(loss_slice(mean, directions[:2], coarse))})
        overflown = [found for found in slices if found.num_nonfinite]
        if overflown:
            reason = _overflow(overflown[0])
            return rows, [self._score(loss, "slice_rise", RISE_UNIT, None, reason=reason)]
        rises = [_mean_rise(axis, found.losses) for found in slices]
        error = float(np.std(rises, ddof=1) / len(rises) ** 0.5) if len(rises) > 1 else None
        value = float(np.mean(rises))
        return rows, [self._score(loss, "slice_rise", RISE_UNIT, value, standard_error=error)]

    def _score(
        self, loss: SubsetLoss, name: str, unit: str, value: float | None, **fields: Any
    ) -> Score:
        subset = loss.subset
        return Score(
            self.name,
            subset.split,
            name,
            value,
            unit,
            len(subset),
            higher_is_better=False,
            **fields,
        )


def _uphill(operator: HessianOperator, result: Eigenvalues) -> Any:
    """Return the eigenvector, whose sign is chance, on the side on which the loss rises."""
    assert result.vectors is not None
    vector = result.vectors[0]
    return -vector if float(inner(vector, operator.gradient)) < 0 else vector


def _mean_rise(axis: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """Return the mean over the axis of how far the loss lies above its middle point."""
    return float(np.trapezoid(losses - losses[len(losses) // 2], axis) / (axis[-1] - axis[0]))


def _points(found: LossSlice) -> dict[str, Any]:
    """Return coordinates and losses as a row holds them: null where a loss is not finite."""
    losses = np.where(np.isfinite(found.losses), found.losses, np.nan).astype(object)
    losses[np.isnan(losses.astype(np.float64))] = None
    return {"coordinates": found.coordinates[0].tolist(), "losses": losses.tolist()}


def _overflow(found: LossSlice) -> str:
    return (
        f"{found.num_nonfinite} of {found.losses.size} points of a slice have no finite loss; use "
        "a smaller extent"
    )
