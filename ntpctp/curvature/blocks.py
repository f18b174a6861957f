"""Top eigenvalues of the diagonal blocks of the Hessian: layer by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ntpctp.curvature.hessian import HessianOperator
from ntpctp.curvature.lanczos import Eigenvalues, top_eigenvalues
from ntpctp.curvature.mean_loss import Batch, LossFunction
from ntpctp.curvature.parameters import parameter_blocks


def block_eigenvalues(
    loss: LossFunction,
    parameters: Mapping[str, Tensor],
    batches: Sequence[Batch],
    *,
    seed: int,
    relative_tolerance: float = 1e-3,
    max_products: int = 200,
    **operator_options: Any,
) -> dict[str, Eigenvalues]:
    """Return the largest eigenvalue of the Hessian's diagonal block of each layer.

    Each is a lower bound on the largest eigenvalue of the whole Hessian (Cauchy's interlacing).

    Args:
        loss: batch -> (summed loss, weight); see ``MeanLoss``.
        parameters: name -> leaf tensor; grouped into layers by ``parameter_blocks``.
        batches: a list.
        seed: see ``top_eigenvalues``.
        relative_tolerance: see ``top_eigenvalues``.
        max_products: for each layer.
        operator_options: see ``HessianOperator``.
    """
    return {
        name: top_eigenvalues(
            HessianOperator(loss, block, batches, **operator_options),
            seed=seed,
            relative_tolerance=relative_tolerance,
            max_products=max_products,
        )
        for name, block in parameter_blocks(parameters).items()
    }
