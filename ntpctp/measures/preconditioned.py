"""Sharpness as Adam sees it: beyond 2 / learning rate training is unstable."""

from typing import ClassVar, Literal

from pydantic import Field

from ntpctp.measures.fields import GraphMemory, LossSplits, MaxProducts, RelativeTolerance
from ntpctp.measures.measure import BuiltIn

RATIO = "multiple of 2 / learning rate"


class Preconditioned(BuiltIn):
    r"""Curvature of an arm's own loss as its Adam sees it, relative to 2 / learning rate.

    With Adam's second moments v after t updates, as the checkpoint stores them, the Hessian H of
    the arm's own token-mean loss over a fixed set of examples becomes Ĥ = c D H, where
    D = diag(1 / (√v̂ + ε)), v̂ = v / (1 − β₂ᵗ) and c = (1 − β₁) / ((1 + β₁)(1 − β₁ᵗ)). Near a
    quadratic minimum Adam is stable while the largest eigenvalue of Ĥ is below 2 / η, η the
    learning rate of the last update; a loss spike follows when the curvature along the gradient
    exceeds it too ("Adaptive Preconditioners Trigger Loss Spikes in Adam", 2025, arXiv 2506.04805,
    lemma 1). Evaluation mode, float32; weight decay is not included. Training sees batches, so its
    gradient differs from that of this set: raise ``max_items`` towards the whole split for the
    paper's full-batch numbers. Scores of each split:

    * ``top_eigenvalue_preconditioned``: the largest eigenvalue of Ĥ, by Lanczos iteration on its
      symmetric form, per unit of weight; ``error_bound`` is the norm of the residual.
    * ``stability_ratio``: the same as a multiple of 2 / η: above 1 Adam is beyond its edge.
    * ``gradient_curvature``: g'Hg / |g|² along the gradient g, in nats per token and squared unit
      of weight.
    * ``gradient_curvature_preconditioned``: g'Ĥg / |g|², per unit of weight.
    * ``gradient_stability_ratio``: the same as a multiple of 2 / η.

    Null with a reason where Ĥ does not exist: before the first update, for another optimizer, with
    LoRA (Adam's moments are then those of the factors, not of the weights), and for a selective
    loss.
    """

    name: Literal["preconditioned"] = "preconditioned"
    split: LossSplits = "train"
    max_items: int = Field(256, ge=1, description="how many items of the split, from the first")
    relative_tolerance: RelativeTolerance = 1e-3
    max_products: MaxProducts = 100
    graph_memory_bytes: GraphMemory = 2**30
    seed: int = Field(0, ge=0, description="seed of the start vector")
    by_default: ClassVar[bool] = False
