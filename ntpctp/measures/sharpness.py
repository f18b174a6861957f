"""Sharpness beyond the top eigenvalue: on the scale of the weights, and layer by layer."""

from typing import ClassVar, Literal

from pydantic import Field

from ntpctp.measures import fields
from ntpctp.measures.measure import BuiltIn


class Sharpness(BuiltIn):
    r"""How far the loss on the answers rises near the weights.

    L is the token-mean loss over the answers of a fixed set of examples, common to all arms, in
    evaluation mode and float32. Scores of each split, in nats per token unless stated otherwise:

    * ``average_adaptive_sharpness``: mean of L(θ + ρ|θ|z) − L(θ) over standard normal z, element
      by element, ρ = ``average_radius`` (Andriushchenko et al. 2023, ICML, equation 1).
    * ``average_filter_sharpness``: the same where z is scaled so that each filter (the weights into
      one output unit; the row of an embedding) has the norm of that filter's weights, ρ =
      ``filter_radius`` (Li et al. 2018, NeurIPS, section 4).
    * ``worst_adaptive_sharpness_l2``, ``worst_adaptive_sharpness_linf``: the largest rise that
      projected gradient ascent finds within ‖δ/|θ|‖ ≤ ``l2_radius`` and ``linf_radius`` (equation 2
      there). A lower bound; ``error_bound`` is the gain of the second half of the steps.
    * ``trace_answer_loss``: sum of all eigenvalues of the Hessian of L, by Hutch++, in nats per
      token and squared unit of weight.
    * ``top_eigenvalue_block_...``: largest algebraic eigenvalue of the Hessian's diagonal block of
      a layer, in the same unit; at most that of the whole Hessian.
    * ``pyhessian_eigenvalue_answer_loss``: only with ``backend: pyhessian``, which also computes
      the trace. Both are for the same token-weighted loss, but PyHessian stops when two successive
      estimates agree, which bounds no error; its eigenvalue is the one of largest *magnitude*,
      possibly negative, and has no residual.

    Average and worst rises do not change when weights are rescaled without changing the function
    (element by element, or filter by filter for ``average_filter_sharpness``); the other scores do.
    Draws depend on ``seed`` alone: all arms of one architecture get the same ones.
    """

    name: Literal["sharpness"] = "sharpness"
    at: Literal["all", "last"] = Field("last", description="which checkpoints are measured")
    split: fields.LossSplits = "train"
    max_items: int = Field(256, ge=1, description="how many items of the split, from the first")
    average_radius: float = Field(
        0.05, gt=0, description="size of the element-wise random perturbations, relative to weights"
    )
    filter_radius: float = Field(
        0.05, gt=0, description="size of the filter-normalised random perturbations"
    )
    draws: int = Field(
        20, ge=2, description="random perturbations of each kind, each taken with both signs"
    )
    l2_radius: float = Field(
        0.25, gt=0, description="bound on the Euclidean norm of the worst perturbation"
    )
    linf_radius: float = Field(
        0.002, gt=0, description="bound on the largest entry of the worst perturbation"
    )
    ascent_steps: int = Field(
        20, ge=2, description="gradient steps of the search for the worst perturbation"
    )
    trace_products: int = Field(60, ge=6, description="Hessian-vector products for the trace")
    blocks: bool = Field(True, description="also compute an eigenvalue for each layer")
    relative_tolerance: fields.RelativeTolerance = 1e-3
    max_products: fields.MaxProducts = 100
    graph_memory_bytes: fields.GraphMemory = 2**30
    backend: fields.CurvatureBackend = Field(
        "ntpctp", description="what computes the trace: ntpctp (Hutch++), or pyhessian"
    )
    seed: int = Field(0, ge=0, description="seed of draws, probes and start vectors")
    by_default: ClassVar[bool] = False
