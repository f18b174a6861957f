"""The shape of the loss around a checkpoint: slices through weight space and the spectrum."""

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from ntpctp.measures import fields
from ntpctp.measures.measure import BuiltIn


class Landscape(BuiltIn):
    r"""The loss on the answers along lines and a plane through the weights, and its spectrum.

    L is the token-mean loss over the answers of a fixed set of examples, common to all arms, in
    evaluation mode and float32. The rows hold all points, for the figures:

    * ``slice``: L(θ + a d), a from −``extent`` to ``extent``, along ``directions`` random
      directions d in which each filter has the norm of that filter's weights, and biases and gains
      do not move (Li et al. 2018, NeurIPS, section 4). They depend on ``seed`` alone: all arms of
      one architecture share them up to these norms.
    * ``eigenvector``: the same along the unit eigenvector of the largest eigenvalue, a from
      −``eigenvector_extent`` to ``eigenvector_extent`` in units of weight; positive a is the side
      on which L rises at first.
    * ``plane``: L(θ + a d + b e) along the first two random directions; none with one direction.
    * ``density``: nodes and weights of the density of eigenvalues, from each of ``probes`` random
      vectors (stochastic Lanczos quadrature; Ghorbani et al. 2019, ICML).

    Scores of each split:

    * ``slice_rise``: mean of L(θ + a d) − L(θ) over a (trapezoidal rule), in nats per token; mean
      over the directions.
    * ``eigenvector_rise``: the same along the eigenvector; ``error_bound`` is the change when every
      other point is left out.
    * ``mean_eigenvalue``, ``root_mean_square_eigenvalue``: over all eigenvalues of the Hessian, in
      nats per token and squared unit of weight; standard errors over the probes.

    With ``backend: pyhessian`` nodes and weights are PyHessian's: for the same token-weighted loss
    and with the same standard errors, but its small projected matrix is in float32, which blurs the
    eigenvalues near zero.
    """

    name: Literal["landscape"] = "landscape"
    at: Literal["all", "last"] = Field("last", description="which checkpoints are measured")
    split: fields.LossSplits = "train"
    max_items: int = Field(128, ge=1, description="how many items of the split, from the first")
    directions: int = Field(3, ge=1, description="random directions")
    extent: float = Field(0.5, gt=0, description="of the slices, in multiples of a direction")
    eigenvector_extent: float = Field(
        0.1, gt=0, description="of the slice along the eigenvector, in units of weight"
    )
    points: int = Field(
        21, ge=5, description="of a slice, 4 n + 1; the middle one is the checkpoint"
    )
    plane_points: int = Field(11, ge=0, description="on each axis of the plane; 0: no plane")
    probes: int = Field(4, ge=2, description="random vectors for the density")
    lanczos_steps: int = Field(
        40, ge=2, description="Lanczos steps for each probe: the resolution of the density"
    )
    relative_tolerance: fields.RelativeTolerance = 1e-3
    max_products: fields.MaxProducts = 100
    graph_memory_bytes: fields.GraphMemory = 2**30
    backend: fields.CurvatureBackend = Field(
        "ntpctp", description="what computes the density: ntpctp, or pyhessian"
    )
    seed: int = Field(0, ge=0, description="seed of directions, probes and start vectors")
    by_default: ClassVar[bool] = False

    @field_validator("points")
    @classmethod
    def _middle_and_halves(cls, points: int) -> int:
        if points % 4 != 1:
            raise ValueError(f"expected 4 n + 1 points (5, 9, 13, 17, 21, ...), found {points}")
        return points
