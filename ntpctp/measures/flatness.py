"""Flatness: how strongly the loss curves at a checkpoint.

The eigenvalues of two arms can be compared only on a loss that both share: the loss on the answers
of the same examples. Each arm's own loss is reported beside it.
"""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ntpctp.measures import fields
from ntpctp.measures.measure import BuiltIn


class Flatness(BuiltIn):
    r"""Extreme eigenvalues of the Hessian of the token-mean loss.

    :math:`H = \nabla^2_\theta \sum_t w_t \ell_t / \sum_t w_t` over all tokens t of a fixed set of
    examples, in evaluation mode, float32, over all parameters (tied ones once): one division over
    the whole set. Computed by Lanczos iteration; ``error_bound`` is the norm of the residual, and
    an eigenvalue of H lies within it. An estimate that has not converged is null.

    Scores of each split, eigenvalues in nats per token and squared unit of weight:

    * ``top_eigenvalue_answer_loss``: the largest algebraic eigenvalue for the loss on the answers
      (the CTP loss), which is common to all arms.
    * ``top_eigenvalue_own_loss``: the same for the loss of the arm's own objective.
    * ``top_eigenvalue_half_answer_loss``: the first over the first half of the examples: how far it
      depends on their number. The iteration starts from the eigenvector of the whole set and stops
      at ``half_tolerance``.
    * ``smallest_eigenvalue_answer_loss``, ``smallest_eigenvalue_own_loss``: the smallest algebraic
      eigenvalue; only with ``ends: both``, which takes three to ten times the products. The rows
      always hold the estimate of it that the search for the largest gives (``smallest_value``), an
      upper bound.
    * ``parameter_norm``: Euclidean norm of all parameters. Where it differs between arms, so does
      the scale on which the eigenvalues are measured.

    With ``backend: pyhessian`` the largest eigenvalues are those of PyHessian's power iteration,
    run until two estimates agree to the square of a quarter of the tolerance; one more product of
    our own gives the residual. Power iteration finds the eigenvalue of largest *magnitude*: where
    that is negative, the score is null.

    Eigenvalues change when weights are rescaled; compare arms of one architecture only, and see
    ``sharpness`` for numbers on the scale of the weights.
    """

    name: Literal["flatness"] = "flatness"
    split: fields.LossSplits = "train"
    max_items: int = Field(256, ge=1, description="how many items of the split, from the first")
    ends: Literal["largest", "both"] = Field(
        "largest", description="eigenvalues to compute: the largest, or the smallest too"
    )
    half: bool = Field(True, description="also the eigenvalue over the first half of the items")
    relative_tolerance: fields.RelativeTolerance = 1e-3
    half_tolerance: float = Field(
        1e-2, gt=0, lt=1, description="relative_tolerance over the first half of the items"
    )
    max_products: fields.MaxProducts = 100
    graph_memory_bytes: fields.GraphMemory = 2**30
    seed: int = Field(0, ge=0, description="seed of the start vector")
    backend: fields.CurvatureBackend = Field(
        "ntpctp", description="what computes eigenvalues: ntpctp (Lanczos), or pyhessian"
    )

    version = 2

    @model_validator(mode="after")
    def _one_end(self) -> "Flatness":
        if self.backend == "pyhessian" and self.ends == "both":
            raise ValueError(
                "expected ends: largest with backend: pyhessian, which finds no other eigenvalue; "
                "found ends: both"
            )
        return self

    @model_serializer(mode="wrap")
    def _stored(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the default backend: results stored before there was a choice stay valid."""
        stored: dict[str, Any] = handler(self)
        if self.backend == "ntpctp":
            stored.pop("backend", None)
        return stored
