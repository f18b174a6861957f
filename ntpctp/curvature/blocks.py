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
    ``loss``, ``batches`` and ``operator_options`` are those of ``HessianOperator``, ``seed`` and
    ``relative_tolerance`` those of ``top_eigenvalues``. ``max_products`` is for each layer; layers
    are those of ``parameter_blocks``.
    """
    found = {}
    for name, block in parameter_blocks(parameters).items():
        operator = HessianOperator(loss, block, batches, **operator_options)
        found[name] = top_eigenvalues(
            operator, seed=seed, relative_tolerance=relative_tolerance, max_products=max_products
        )
    return found
