"""The generalised Gauss-Newton matrix: the Hessian without the curvature of the model itself.

Shape letter: P = number of entries of all parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from ntpctp.curvature.jacobian import sandwich
from ntpctp.curvature.mean_loss import Batch, MeanLoss


class Prediction(NamedTuple):
    """A summed loss in two steps: what the model puts out, and the loss of that."""

    outputs: Tensor
    """Differentiable, any shape."""
    loss_sum: Callable[[Tensor], Tensor]
    """Summed loss of outputs: scalar, twice differentiable."""
    weight: Tensor
    """Scalar."""


PredictionFunction: TypeAlias = Callable[[Batch], Prediction]
"""batch -> its ``Prediction``."""


class GaussNewtonOperator:
    r"""Generalised Gauss-Newton matrix of the mean loss over a fixed list of batches.

    Represents the symmetric (P, P) matrix

    .. math:: G = \frac{1}{W} \sum_b J_b^\top \, \nabla^2_z \ell_b(z_b) \, J_b,
              \qquad J_b = \partial z_b / \partial \theta, \quad W = \sum_b w_b

    with outputs :math:`z_b` (Schraudolph 2002, Neural Computation 14, section 3). For a loss that
    is convex in the outputs it is positive semidefinite; where the model is linear in its
    parameters, or every output is at its minimum, it is the Hessian. Exact up to rounding; a
    product costs about three gradients and one graph at a time.

    Args:
        predict: batch -> ``Prediction``.
        parameters: name -> leaf tensor; see ``ParameterVector``.
        batches: a list, gone through once a product.
        process_group: sums over processes; see ``MeanLoss``.

    Attributes:
        shape: (P, P).
        dtype, device: of the parameters, the vectors and the products.
        mean_loss: the ``MeanLoss`` of the composed loss.

    Raises:
        InputError: for what ``MeanLoss`` refuses, and for an operation without second derivative.
    """

    def __init__(
        self,
        predict: PredictionFunction,
        parameters: Mapping[str, Tensor],
        batches: Sequence[Batch],
        *,
        process_group: dist.ProcessGroup | None = None,
    ):
        def loss(batch: Batch) -> tuple[Tensor, Tensor]:
            prediction = predict(batch)
            return prediction.loss_sum(prediction.outputs), prediction.weight

        self.mean_loss = MeanLoss(loss, parameters, batches, process_group=process_group)
        self.parameters = self.mean_loss.parameters
        self.shape = (self.parameters.size, self.parameters.size)
        self.dtype, self.device = self.parameters.dtype, self.parameters.device
        self._predict = predict

    def __matmul__(self, vector: Tensor) -> Tensor:
        """Return G ``vector``: (P,) -> (P,).

        Raises:
            InputError: if the vector does not fit, the parameters were changed since construction,
                or the product is not finite.
        """
        self.parameters.check_vector(vector)
        self.mean_loss.check_unchanged()
        total = torch.zeros_like(vector)
        for batch in self.mean_loss.batches:
            prediction = self._predict(batch)
            total += sandwich(
                prediction.outputs, self.parameters, vector, _output_hessian(prediction)
            )
        return self.mean_loss.finish(total)


def _output_hessian(prediction: Prediction) -> Callable[[Tensor], Tensor]:
    """Return the product with the Hessian of the loss in its outputs."""
    outputs = prediction.outputs.detach().requires_grad_()
    loss_sum = prediction.loss_sum(outputs)
    (gradient,) = torch.autograd.grad(loss_sum, outputs, create_graph=True)

    def product(tangent: Tensor) -> Tensor:
        if not gradient.requires_grad:  # a loss that is linear in the outputs
            return torch.zeros_like(tangent)
        (result,) = torch.autograd.grad(
            gradient, outputs, tangent, materialize_grads=True, allow_unused=True
        )
        return result

    return product
