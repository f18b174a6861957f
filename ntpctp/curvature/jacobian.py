"""Products with J' M J, the shape that Gauss-Newton and Fisher matrices share.

Shape letters: P = number of entries of all parameters, J = Jacobian of some outputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ntpctp.curvature.mean_loss import explain_missing_derivative
from ntpctp.curvature.parameters import ParameterVector


def sandwich(
    outputs: Tensor,
    parameters: ParameterVector,
    vector: Tensor,
    middle: Callable[[Tensor], Tensor],
) -> Tensor:
    r"""Return :math:`J^\top M J v`, (P,).

    :math:`J v` is taken as the derivative of the linear map :math:`u \mapsto J^\top u` (the double
    backward trick of J. Townsend, 2017), so that every model with two derivatives will do. Costs
    about three gradients; frees the graph of ``outputs``.

    Args:
        outputs: differentiable, any shape.
        parameters: what J is taken with respect to; those that do not reach ``outputs`` give zeros.
        vector: v, (P,).
        middle: multiplies M onto a tensor of the shape of ``outputs``.
    """
    with explain_missing_derivative():
        dummy = torch.zeros_like(outputs, requires_grad=True)
        transposed = torch.autograd.grad(
            outputs, parameters.tensors, dummy, create_graph=True, allow_unused=True
        )
        reached = [
            (piece, v)
            for piece, v in zip(transposed, parameters.unflatten(vector), strict=True)
            if piece is not None and piece.requires_grad
        ]
        if not reached:
            return torch.zeros_like(vector)
        (image,) = torch.autograd.grad(
            [piece for piece, _ in reached],
            dummy,
            grad_outputs=[v for _, v in reached],
            retain_graph=True,
        )
        product = torch.autograd.grad(
            outputs, parameters.tensors, middle(image.detach()), allow_unused=True
        )
    return parameters.flatten(product)
